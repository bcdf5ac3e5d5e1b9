// The shop where the service wants to know who asks.

import { after, before, test } from 'node:test';
import { launch, open } from './browser.mjs';
import { startService } from './service.mjs';
import { issuer } from './tokens.mjs';

let tokens;
let service;
let browser;
before(async () => {
  tokens = await issuer();
  [service, browser] = await Promise.all([startService([...tokens.flags, '--anonymous-scopes', 'qry:product,qry:storefront']), launch()]);
});
after(async () => { await browser?.close(); await service?.stop(); await tokens?.end(); });

/** Gives a page a token, as a reader does. */
async function paste(page, token) {
  await page.getByRole('button', { name: 'Access' }).click();
  await page.getByLabel('Access token').fill(token);
  await page.getByRole('button', { name: 'Use it' }).click();
}
// What a browser itself says of a refusal, and of an order that is not there.
const expected = [/status of 40[134]/];

test('anybody sees the shelves, and a member with a token orders as themselves', async () => {
  const seen = await open(browser, `${service.url}/shop#/store/gangnam`, { expected });
  const { page } = seen;
  await page.locator('li[data-sku="radish-1kg"]').getByRole('button', { name: /^Add/ }).click();
  await page.goto(`${service.url}/shop#/orders/o-none`);
  await page.getByText('That needs a token').first().waitFor();

  await paste(page, tokens.sign('m-haneul', 'cmd:order:* qry:order qry:product qry:storefront'));
  await page.getByRole('link', { name: 'm-haneul' }).waitFor();
  await page.getByRole('link', { name: /^Basket/ }).click();
  await page.getByRole('button', { name: 'Order', exact: true }).click();
  await page.locator('[data-status=confirmed]').waitFor();
  await page.getByRole('button', { name: /^Pay/ }).click();
  await page.locator('[data-status=paid]').waitFor();

  // Shipping is for staff, and the page says so.
  await page.getByRole('link', { name: 'Behind the counter' }).click();
  await page.getByRole('button', { name: /^Ship/ }).click();
  await page.getByText('needs a token with more rights').waitFor();
  await paste(page, tokens.sign('s-1', 'staff cmd:* qry:*'));
  await page.getByRole('button', { name: /^Ship/ }).click();
  await page.getByText('is on its way.').waitFor();
  await seen.close();
});
