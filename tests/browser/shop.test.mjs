// The shop, as shoppers and a branch use it.

import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { after, before, test } from 'node:test';
import { accessible, fits, launch, open, until, weigh } from './browser.mjs';
import { command, document, startService } from './service.mjs';

let service;
let browser;
before(async () => { [service, browser] = await Promise.all([startService(), launch()]); });
after(async () => { await browser?.close(); await service?.stop(); });

const shop = (place = '') => `${service.url}/shop${place && `#/${place}`}`;
const card = (page, sku) => page.locator(`li[data-sku="${sku}"]`);
const become = async (page, member) => {
  await page.getByRole('link', { name: 'Who you are' }).click();
  await page.getByRole('button', { name: member, exact: true }).click();
};

/** Leaves so many of a product in a branch. */
async function leave(branch, sku, count) {
  const id = `${branch}_${sku}`;
  await command(service.url, 'stock', id, 'receive', { quantity: 1 });
  const section = (await (await fetch(`${service.url}/views/storefront?branch=${branch}&limit=200`)).json()).items;
  const { at } = await command(service.url, 'stock', id, 'receive', { quantity: 1 });
  const shown = section.find((item) => item.document.sku === sku);
  const { available } = await document(service.url, 'storefront', shown.id, at);
  await command(service.url, 'stock', id, 'adjust', { delta: count - available, reason: 'counted' });
}

test('an order is placed, paid, shipped and delivered before the eyes of both', async () => {
  const shopper = await open(browser, shop('store/gangnam'));
  const counter = await open(browser, shop('counter/gangnam'));
  await become(shopper.page, 'm-haneul');
  await card(shopper.page, 'banana-2kg').getByRole('button', { name: /^Add/ }).click();
  await card(shopper.page, 'kiwi-1kg').getByRole('button', { name: /^Add/ }).click();
  await card(shopper.page, 'kiwi-1kg').getByRole('button', { name: /^One more/ }).click();
  await shopper.page.getByRole('link', { name: /^Basket/ }).click();
  await shopper.page.getByRole('button', { name: 'Order', exact: true }).click();

  const status = shopper.page.locator('[data-status]');
  await shopper.page.getByRole('button', { name: /^Pay/ }).click();
  await status.and(shopper.page.locator('[data-status=paid]')).waitFor();
  const id = new URL(shopper.page.url()).hash.split(/[/?]/)[2];
  await counter.page.locator(`li[data-order="${id}"]`).getByRole('button', { name: /^Ship/ }).click();
  await shopper.page.locator('[data-status=shipped]').waitFor();
  await counter.page.locator(`li[data-order="${id}"]`).getByRole('button', { name: /is delivered$/ }).click();
  await shopper.page.locator('[data-status=delivered]').waitFor();
  const steps = await shopper.page.locator('ol.way li.taken span').allTextContents();
  assert.deepEqual(steps, ['Placed', 'To be paid', 'Paid', 'On its way', 'Delivered']);
  await shopper.close();
  await counter.close();
});

test('who buys the last one sells it out for everybody, and the basket says so before ordering', async () => {
  await leave('gangnam', 'strawberry-2kg', 1);
  const [one, other] = await Promise.all([open(browser, shop('store/gangnam')), open(browser, shop('store/gangnam'))]);
  await become(one.page, 'm-bada');
  await card(other.page, 'strawberry-2kg').getByText('Only 1 left').waitFor();
  await card(other.page, 'strawberry-2kg').getByRole('button', { name: /^Add/ }).click();

  await card(one.page, 'strawberry-2kg').getByRole('button', { name: /^Add/ }).click();
  await one.page.getByRole('link', { name: /^Basket/ }).click();
  await one.page.getByRole('button', { name: 'Order', exact: true }).click();
  await one.page.locator('[data-status=confirmed]').waitFor();

  await card(other.page, 'strawberry-2kg').getByText('Sold out').first().waitFor();
  await other.page.getByRole('link', { name: /^Basket/ }).click();
  await other.page.getByText('has sold out').waitFor();
  assert.ok(await other.page.getByRole('button', { name: 'Order', exact: true }).isDisabled());

  // Cancelled, it is there again for the other.
  await one.page.getByRole('button', { name: 'Cancel the order' }).click();
  await one.page.getByRole('dialog').getByRole('button', { name: 'Cancel the order' }).click();
  await one.page.locator('[data-status=cancelled]').waitFor();
  await other.page.getByRole('button', { name: 'Order', exact: true, disabled: false }).waitFor();
  await one.close();
  await other.close();
});

test('what is sold out without being on display is told after ordering', async () => {
  const sku = 'apple-2kg';
  const { document: product } = await (await fetch(`${service.url}/views/product/${sku}`)).json();
  const stock = `gangnam_${sku}`;
  // More than there ever were: reserved for an order that nobody places.
  for (let left = true; left;) left = await command(service.url, 'stock', stock, 'adjust', { delta: -1, reason: 'counted' }).then(() => true, () => false);
  const shopper = await open(browser, shop('store/gangnam?q=apple'));
  await become(shopper.page, 'm-sol');
  await shopper.page.goto(shop('store/gangnam?q=apple'));
  await card(shopper.page, sku).getByText('Not on display').waitFor();
  await card(shopper.page, sku).getByRole('button', { name: /^Add/ }).click();
  await shopper.page.getByRole('link', { name: /^Basket/ }).click();
  await shopper.page.getByRole('button', { name: 'Order', exact: true }).click();
  const told = shopper.page.locator('[data-status=rejected]');
  await told.waitFor();
  assert.match(await told.textContent(), new RegExp(sku), product.name);
  await shopper.close();
});

test('a search finds as one types, in Korean too', async () => {
  const shopper = await open(browser, shop('store/gangnam'), { locale: 'ko-KR' });
  const search = shopper.page.getByRole('searchbox', { name: '상품 검색' });
  await search.pressSequentially('사과');
  await card(shopper.page, 'apple-1kg').waitFor();
  await until(async () => (await shopper.page.locator('.card').count()) === 3, 'the three kinds of apples');
  assert.match(shopper.page.url(), /q=/);
  await search.fill('없는것');
  await shopper.page.getByText('맞는 상품이 없습니다').waitFor();
  assert.equal(await shopper.page.evaluate(() => globalThis.document.documentElement.lang), 'ko');
  await shopper.page.getByRole('button', { name: 'English' }).click();
  await shopper.page.getByRole('searchbox', { name: 'Search products' }).waitFor();
  await shopper.close();
});

test('all of it goes by keyboard', async () => {
  const shopper = await open(browser, shop('store/gangnam'));
  const { page } = shopper;
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => globalThis.document.activeElement.textContent), 'To the content');
  const focus = async (name) => {
    for (let presses = 0; presses < 200; presses += 1) {
      const now = await page.evaluate(() => globalThis.document.activeElement.getAttribute('aria-label') ?? globalThis.document.activeElement.textContent);
      if (name.test(now)) return;
      await page.keyboard.press('Tab');
    }
    assert.fail(`${name} is not reached by the keyboard`);
  };
  await card(page, 'radish-1kg').waitFor();
  await focus(/^Add Radish/);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: /^Basket 1/ }).waitFor();
  await page.getByRole('link', { name: /^Who/ }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Who you are' }).waitFor();
  await page.getByRole('button', { name: 'm-nuri' }).waitFor();
  await focus(/^m-nuri/);
  await page.keyboard.press('Space');
  await page.getByRole('link', { name: /^Basket/ }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Basket' }).waitFor();
  await focus(/^Order$/);
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: /^Pay/ }).waitFor();
  await focus(/^Pay/);
  await page.keyboard.press('Enter');
  await page.locator('[data-status=paid]').waitFor();
  await shopper.close();
});

test('goods that come in are on the shelves at once', async () => {
  await leave('seongsu', 'apple-1kg', 0).catch(() => {});
  const shopper = await open(browser, shop('store/seongsu'));
  const counter = await open(browser, shop('counter/seongsu'));
  const sku = await counter.page.locator('tr[data-sku]').first().getAttribute('data-sku');
  const before = await card(shopper.page, sku).locator('.state').textContent();
  await counter.page.locator(`tr[data-sku="${sku}"] button`).click();
  await until(async () => (await card(shopper.page, sku).locator('.state').textContent()) !== before, 'the new stock');
  await counter.page.getByRole('searchbox', { name: 'Product' }).fill('banana');
  await counter.page.getByRole('button', { name: 'Banana, 1 kg', exact: true }).click();
  await counter.page.getByRole('button', { name: 'Receive', exact: true }).click();
  await counter.page.getByText('received.').last().waitFor();
  await shopper.close();
  await counter.close();
});

test('every page is accessible, light and dark, and fits a narrow window and a large type', async () => {
  const { id } = await command(service.url, 'order', 'o-seen', 'place', { member: 'm-garam', branch: 'hongdae', lines: [{ sku: 'apple-1kg', quantity: 1, unit_price: 6900 }] });
  const places = ['store/hongdae', 'store/hongdae?q=apple', 'basket/hongdae', 'orders', `orders/${id}`, 'counter/hongdae', 'who', 'nowhere'];
  for (const colorScheme of ['light', 'dark']) {
    const seen = await open(browser, shop('who'), { colorScheme });
    await seen.page.getByRole('button', { name: 'm-garam' }).click();
    await seen.page.locator('.card').first().getByRole('button', { name: /^Add/ }).click().catch(() => {});
    const shown = async (place) => {
      await seen.page.goto(shop(place));
      await seen.page.locator('main h1').waitFor();
      await until(async () => (await seen.page.locator('main [role=status]').filter({ hasText: /…$/ }).count()) === 0, `${place} has loaded`);
    };
    for (const place of places) {
      await shown(place);
      await accessible(seen.page, `${place}, ${colorScheme}`);
    }
    // 320 px, which is also 1,280 px at 400 %; and 640 px, which is 1,280 px at 200 %.
    for (const width of [320, 640]) {
      await seen.page.setViewportSize({ width, height: 800 });
      for (const place of places) {
        await shown(place);
        await fits(seen.page, `${place} at ${width} px`);
      }
    }
    await seen.close();
  }
});

test('a page weighs little', async (t) => {
  const { bytes, paint } = await weigh(browser, shop());
  t.diagnostic(`the shop: ${Math.round(bytes / 1000)} KB, first paint after ${Math.round(paint)} ms`);
  assert.ok(bytes <= 150_000, `${bytes} bytes`);
});

test('it works below another path', async (t) => {
  const proxy = createServer((asked, answer) => {
    const { hostname, port } = new URL(service.url);
    if (!asked.url.startsWith('/below/here/')) { answer.writeHead(404).end(); return; }
    const passed = request({ hostname, port, path: asked.url.slice('/below/here'.length), method: asked.method, headers: asked.headers }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    });
    passed.on('error', () => answer.destroy());
    answer.on('close', () => passed.destroy());
    asked.pipe(passed);
  });
  await new Promise((resolve) => { proxy.listen(0, '127.0.0.1', resolve); });
  t.after(() => { proxy.closeAllConnections(); proxy.close(); });
  const url = `http://127.0.0.1:${proxy.address().port}/below/here/shop/`;
  const shopper = await open(browser, url);
  await shopper.page.locator('.card').first().waitFor();
  assert.ok(shopper.page.url().includes('/below/here/shop'));
  await shopper.close();
});
