// The pictures of the README, made where they are asked for: `make test-browser ARGS=--pictures`.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open } from './browser.mjs';
import { startService } from './service.mjs';

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
