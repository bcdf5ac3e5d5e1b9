// The pictures of the README, made where they are asked for: `make test-browser ARGS=--pictures`.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open } from './browser.mjs';
import { command, startService } from './service.mjs';

const folder = process.env.HEADWATER_PICTURES;
const skip = folder ? false : 'pictures are made with --pictures';
let service;
let browser;
before(async () => {
  if (skip) return;
  await mkdir(folder, { recursive: true });
  [service, browser] = await Promise.all([startService(), launch()]);
});
after(async () => { await browser?.close(); await service?.stop(); });

test('the shop', { skip }, async () => {
  const seen = await open(browser, `${service.url}/shop#/store/gangnam`, { width: 1100, height: 760 });
  const { page } = seen;
  await page.locator('li[data-sku="radish-1kg"]').getByRole('button', { name: /^Add/ }).click();
  await page.locator('.note.good').waitFor({ state: 'detached' });
  await page.screenshot({ path: join(folder, 'shop.png') });
  await seen.close();
});

test('the console', { skip }, async () => {
  // Something goes through while it is looked at.
  for (let number = 0; number < 60; number += 1) {
    await command(service.url, 'order', `o-${number}`, 'place', { member: 'm-haneul', branch: 'gangnam', lines: [{ sku: 'radish-1kg', quantity: 1, unit_price: 5320 }] });
  }
  const seen = await open(browser, `${service.url}/console`, { width: 1300, height: 860 });
  await seen.page.locator('canvas').first().waitFor();
  for (let number = 60; number < 400; number += 1) {
    await command(service.url, 'order', `o-${number}`, 'place', { member: 'm-haneul', branch: 'gangnam', lines: [{ sku: 'radish-1kg', quantity: 1, unit_price: number % 9 ? 5320 : 1 }] });
  }
  await seen.page.screenshot({ path: join(folder, 'console.png') });
  await seen.close();
});
