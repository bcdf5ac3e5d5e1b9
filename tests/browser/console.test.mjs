// The console, as operators use it: stories of which none takes more than six clicks, or a minute.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { ZOOMED, accessible, fits, launch, open, until, weigh } from './browser.mjs';
import { command, document, startService } from './service.mjs';

const MOST_CLICKS = 6;
const MOST_MS = 60_000;
let service;
let browser;
before(async () => {
  [service, browser] = await Promise.all([startService(), launch()]);
  await command(service.url, 'order', 'o-told', 'place', { member: 'm-haneul', branch: 'gangnam', lines: [{ sku: 'apple-1kg', quantity: 1, unit_price: 6900 }] }, { 'Idempotency-Key': 'k-told' });
  await command(service.url, 'order', 'o-much', 'place', { member: 'm-haneul', branch: 'gangnam', lines: [{ sku: 'apple-1kg', quantity: 99, unit_price: 6900 }] });
  await until(async () => (await document(service.url, 'order', 'o-told'))?.status === 'confirmed', 'the order');
});
after(async () => { await browser?.close(); await service?.stop(); });

const place = (path = '') => `${service.url}/console${path && `#/${path}`}`;

/** An operator who counts clicks. */
async function operator(path) {
  const seen = await open(browser, place(path));
  let clicks = 0;
  const began = Date.now();
  return {
    ...seen,
    click: async (locator) => { clicks += 1; await locator.click(); },
    find: async (id) => {
      clicks += 1;
      await seen.page.getByRole('searchbox').fill(id);
      await seen.page.getByRole('searchbox').press('Enter');
    },
    done: async () => {
      await seen.close();
      assert.ok(clicks <= MOST_CLICKS, `${clicks} clicks`);
      assert.ok(Date.now() - began <= MOST_MS, `${Date.now() - began} ms`);
    },
  };
}

/** Appends what no command would: a commit that a view cannot apply. */
function append(subject, body) {
  const { hostname, port } = new URL(service.nats);
  return new Promise((resolve, reject) => {
    const nats = connect(Number(port), hostname);
    let got = '';
    nats.on('data', (bytes) => {
      got += bytes;
      if (got.includes('"seq"')) { nats.end(); resolve(); }
      if (got.includes('"error"')) { nats.end(); reject(new Error(got)); }
    });
    nats.once('error', reject);
    nats.write(`CONNECT {"verbose":false}\r\nSUB _INBOX.told 1\r\nPUB ${subject} _INBOX.told ${Buffer.byteLength(body)}\r\n${body}\r\n`);
  });
}

const event = (id, version, type, data) => ({ specversion: '1.0', source: `/order/${id}`, id: String(version), type, time: new Date().toISOString(), commandid: `by-hand-${id}-${version}`, data });

test('the overview says how all is, and draws what goes through', async () => {
  const { page, close } = await open(browser, place());
  await page.getByRole('heading', { name: 'Needs attention' }).waitFor();
  await page.getByText('All is well').waitFor();
  await page.getByRole('img', { name: /^Commands per second: accepted/ }).locator('canvas').waitFor();
  const drawn = () => page.locator('canvas').first().evaluate((canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte));
  await until(drawn, 'the lines');
  await close();
});

test('which view is behind, why, and what was parked: to its cause, tried again, left out', async () => {
  await append('evt.order.o-odd', JSON.stringify([event('o-odd', 1, 'order.confirmed.v1', {})]));
  const it = await operator();
  await it.click(it.page.getByRole('link', { name: /^order has parked/ }));
  await it.click(it.page.getByRole('link', { name: 'order/o-odd' }));
  await it.page.locator('.note.bad').first().waitFor();
  assert.match(await it.page.locator('.note.bad').first().textContent(), /o-odd/);
  await it.page.getByText('order.confirmed.v1').first().waitFor();
  await it.click(it.page.getByRole('button', { name: 'Retry' }));
  await it.click(it.page.getByRole('dialog').getByRole('button', { name: 'Retry' }));
  await it.page.getByText('1 still parked').waitFor();
  await it.page.goBack();
  await it.click(it.page.getByRole('button', { name: 'Leave out' }));
  await it.click(it.page.getByRole('dialog').getByRole('button', { name: 'Leave out' }));
  await it.page.getByText('done').first().waitFor();
  await it.page.goto(place('parked'));
  await it.page.getByText('Nothing is parked').waitFor();
  await it.done();
});

test('a process that waits, and until when', async () => {
  const it = await operator();
  await it.find('fulfilment/o-told');
  await it.click(it.page.getByRole('link', { name: 'fulfilment/o-told' }));
  await it.page.getByText('payment, until').waitFor();
  const utc = await it.page.locator('main time').first().getAttribute('title');
  assert.match(utc, /UTC$/);
  await it.page.getByText('order.placed.v1').first().waitFor();
  await it.done();
});

test('an instance is suspended, with a reason, and let go on', async () => {
  const it = await operator('processes/fulfilment/o-told');
  const button = (name) => it.page.getByRole('button', { name, exact: true });
  const asked = it.page.getByRole('dialog');
  await it.click(button('Suspend'));
  await asked.getByLabel('Reason').fill('looked at by a test');
  await it.click(asked.getByRole('button', { name: 'Suspend' }));
  await it.page.locator('.chip', { hasText: 'suspended' }).first().waitFor();
  await it.page.getByRole('button', { name: /^Suspend\s*: It is suspended already/ }).waitFor();
  await it.click(button('Let go on'));
  await it.click(asked.getByRole('button', { name: 'Let go on' }));
  await it.page.locator('.chip', { hasText: 'waiting' }).first().waitFor();
  await it.done();
});

test('a view is verified, rebuilt and rolled back, and the job says how far it is', async () => {
  const it = await operator('views/product');
  for (const [action, text] of [['Verify', '0 differ'], ['Rebuild', 'done'], ['Roll back', 'done']]) {
    await it.page.goto(place('views/product'));
    const button = it.page.getByRole('button', { name: action, exact: true });
    await until(async () => (await button.count()) === 1 && (await button.getAttribute('aria-disabled')) !== 'true', `${action} may be done`);
    await it.click(button);
    await it.click(it.page.getByRole('dialog').getByRole('button', { name: action, exact: true }));
    await it.page.getByText(text).first().waitFor();
    await it.page.locator('.chip.good', { hasText: 'done' }).first().waitFor();
  }
  await it.done();
});

test('what may not be done says why', async () => {
  const it = await operator('views/sales');
  const back = it.page.getByRole('button', { name: /^Roll back\s*: There is no previous generation/ });
  await back.waitFor();
  // What is barred is not clicked by a driver that waits until it may be, but it can be reached and pressed.
  await back.focus();
  await it.page.keyboard.press('Enter');
  await it.page.getByText('There is no previous generation.').last().waitFor();
  assert.equal(await it.page.getByRole('dialog').count(), 0);
  await it.done();
});

test('which event made a document as it is', async () => {
  const it = await operator('documents/order/o-told');
  await it.page.getByText('Equal to what the log says').waitFor();
  const row = it.page.getByRole('row').filter({ hasText: '/status' }).first();
  assert.match(await row.textContent(), /order\.confirmed\.v1/);
  await it.click(row.getByRole('link', { name: 'order.confirmed.v1' }));
  await it.page.locator('li.chosen').getByText('order.confirmed.v1').waitFor();
  await it.click(it.page.locator('li.chosen').getByRole('link', { name: /^fulfilment\/o-told\// }));
  await it.page.getByRole('heading', { name: /^Story of a command/ }).waitFor();
  await it.done();
});

test('the home of an id', async () => {
  const it = await operator('replicas');
  await it.page.getByLabel('Aggregate').selectOption('order');
  await it.page.getByLabel('Id', { exact: true }).fill('o-told');
  await it.click(it.page.getByRole('button', { name: 'Find' }));
  await it.page.getByText('order/o-told is decided by').waitFor();
  await it.done();
});

test('the whole story of a command', async () => {
  const it = await operator();
  await it.find('k-told');
  await it.click(it.page.getByRole('link', { name: 'Look' }));
  await it.page.locator('.node.command').first().getByText('order/o-told').waitFor();
  for (const caused of ['order.placed.v1', 'fulfilment/o-told', 'stock/gangnam_apple-1kg']) await it.page.getByText(caused).first().waitFor();
  await it.done();
});

test("the last minute's refusals", async () => {
  await assert.rejects(command(service.url, 'order', 'o-told', 'ship', {}));
  const it = await operator();
  await it.click(it.page.getByRole('link', { name: 'Refusals' }));
  await it.page.getByText('illegal_transition').first().waitFor();
  await it.done();
});

test('the log as it comes, held and let go on', async () => {
  const it = await operator('log');
  await it.page.locator('ol.tail li').first().waitFor();
  await command(service.url, 'stock', 'gangnam_radish-1kg', 'receive', { quantity: 1 });
  await it.page.locator('ol.tail li').filter({ hasText: 'stock/gangnam_radish-1kg' }).first().waitFor();
  await it.click(it.page.getByRole('button', { name: 'Hold' }));
  await command(service.url, 'stock', 'gangnam_onion-1kg', 'receive', { quantity: 1 });
  await it.click(it.page.getByRole('button', { name: /^Go on \(/ }));
  await it.page.locator('ol.tail li').filter({ hasText: 'stock/gangnam_onion-1kg' }).first().waitFor();
  await it.done();
});

test('an aggregate has its history, with what each event changed', async () => {
  const it = await operator();
  await it.find('order/o-told');
  await it.click(it.page.getByRole('link', { name: 'order/o-told' }).first());
  await it.page.getByText('order.confirmed.v1').first().waitFor();
  await it.page.locator('.changes ins', { hasText: 'confirmed' }).first().waitFor();
  await it.done();
});

test('what is asked for as soon as a question is closed is asked', async () => {
  const seen = await open(browser, place('views/product'));
  const { page } = seen;
  for (const name of ['Verify', 'Access']) {
    const button = page.getByRole('button', { name, exact: true }).first();
    await button.click();
    await page.getByRole('dialog', { name }).waitFor();
    // A browser closes a dialog at once, and tells of it later: by then the next may have been asked for.
    await button.evaluate((pressed) => { document.querySelector('dialog').close(); pressed.click(); });
    await page.getByRole('dialog', { name }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    assert.ok(await button.evaluate((pressed) => pressed === document.activeElement), 'the focus is back where it was');
  }
  await seen.close();
});

test('all of it goes by keyboard', async () => {
  const seen = await open(browser, place());
  const { page } = seen;
  // A dialog or a panel that has the focus begins with the same words as what is pressed in it.
  const focused = (name) => page.evaluate((text) => {
    const focus = document.activeElement;
    return focus?.matches('a, button') && focus.textContent.trim().startsWith(text);
  }, name);
  const reach = async (name, from = page) => {
    await from.locator('a, button').filter({ hasText: new RegExp(`^\\s*${name}`) }).first().waitFor();
    for (let tabs = 0; tabs < 80; tabs += 1) {
      await page.keyboard.press('Tab');
      if (await focused(name)) return;
    }
    assert.fail(`${name} is not reached by the keyboard`);
  };
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  await reach('To the content', page.locator('body'));
  await reach('Views');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'Views' }).waitFor();
  // The heading has the focus now, so that the next step goes into the page.
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Views');
  await reach('product', page.getByRole('main'));
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'View product' }).waitFor();
  await reach('Verify', page.getByRole('main'));
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.ok(await focused('Verify'), 'the focus is back where it was');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await reach('Verify', page.getByRole('dialog'));
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await page.getByText('0 differ').first().waitFor();
  await page.getByRole('searchbox').focus();
  await page.keyboard.type('order/o-told');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: /o-told/ }).waitFor();
  await seen.close();
});

test('every page is accessible, light and dark, and fits a narrow window and a large type', async () => {
  const places = ['', 'views', 'views/order', 'parked', 'processes', 'processes/fulfilment/o-told', 'aggregates/order/o-told', 'documents/order/o-told', 'commands?id=k-told&aggregate=order&of=o-told', 'log', 'refusals', 'replicas', 'jobs', 'search?q=o-told', 'nowhere'];
  for (const colorScheme of ['light', 'dark']) {
    const seen = await open(browser, place(), { colorScheme });
    const shown = async (path, page = seen.page) => {
      await page.goto(place(path));
      await page.locator('main h1').waitFor();
      await until(async () => (await page.locator('main .empty').filter({ hasText: /…$/ }).count()) === 0, `${path} has loaded`);
    };
    for (const path of places) {
      await shown(path);
      await accessible(seen.page, `${path}, ${colorScheme}`);
    }
    await seen.close();
    // A narrow window; and a usual one at 200 %, as a browser zooms.
    for (const window of [{ width: 320, height: 800 }, ZOOMED]) {
      const narrow = await open(browser, place(), { colorScheme, ...window });
      for (const path of places) {
        await shown(path, narrow.page);
        await fits(narrow.page, `${path} at ${window.width} px`);
        await accessible(narrow.page, `${path}, ${colorScheme}, at ${window.width} px`);
      }
      await narrow.close();
    }
  }
});

test('a page weighs little', async (t) => {
  const { bytes, paint } = await weigh(browser, place());
  t.diagnostic(`the console: ${Math.round(bytes / 1000)} KB, first paint after ${Math.round(paint)} ms`);
  assert.ok(bytes <= 150_000, `${bytes} bytes`);
});

test('a replica that dies is missed', async (t) => {
  const it = await operator('replicas');
  await it.page.getByText('this one').waitFor();
  const replica = await service.startReplica('process');
  t.after(() => replica.die());
  const rows = it.page.getByRole('region', { name: 'Replicas' }).locator('tbody tr');
  await until(async () => (await rows.count()) === 2, 'the second replica');
  await replica.die();
  await it.page.getByText(/is gone since/).waitFor();
  await it.click(it.page.getByRole('link', { name: 'Overview' }));
  await it.page.getByRole('link', { name: /is gone since/ }).waitFor();
  await it.done();
});
