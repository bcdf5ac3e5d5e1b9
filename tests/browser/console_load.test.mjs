// The console beside a log that does not stand still: ten thousand rows, a hundred events a second, and a view that
// comes behind.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { launch, open, until } from './browser.mjs';
import { startService } from './service.mjs';

const ROWS = 10_000;
const PER_SECOND = 100;
const SECONDS = 8;
// A frame of more than 50 ms is a task of the browser's that takes as long. None is wanted; a machine that builds and tests
// beside it lends the browser a core only now and then.
const LONG_TASKS = 12;

let service;
let browser;
before(async () => { [service, browser] = await Promise.all([startService(), launch()]); });
after(async () => { await browser?.close(); await service?.stop(); });

const place = (path = '') => `${service.url}/console${path && `#/${path}`}`;

/** Appends to the log past the command side, as fast as it goes. */
function log() {
  const { hostname, port } = new URL(service.nats);
  const nats = connect(Number(port), hostname);
  nats.setNoDelay(true);
  const heard = [];
  nats.on('data', (bytes) => { for (let pongs = String(bytes).split('PONG').length - 1; pongs > 0; pongs -= 1) heard.shift()?.(); });
  nats.write('CONNECT {"verbose":false}\r\n');
  return {
    append: (aggregate, id, version, type, data) => {
      const event = { specversion: '1.0', source: `/${aggregate}/${id}`, id: String(version), type, time: new Date().toISOString(), commandid: `load-${id}-${version}`, data };
      const body = JSON.stringify([event]);
      nats.write(`PUB evt.${aggregate}.${id} ${Buffer.byteLength(body)}\r\n${body}\r\n`);
    },
    flush: () => new Promise((resolve) => { heard.push(resolve); nats.write('PING\r\n'); }),
    close: () => nats.destroy(),
  };
}

/** Notes from now on how long each frame takes, and each task of more than 50 ms. */
const watch = (page) => page.evaluate(() => {
  const noted = { frames: [], long: [], ends: false };
  globalThis.noted = noted;
  let last = performance.now();
  const frame = (now) => {
    noted.frames.push(now - last);
    last = now;
    if (!noted.ends) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) noted.long.push(duration); }).observe({ type: 'longtask' });
});

test('ten thousand rows and a hundred events a second', async (t) => {
  const nats = log();
  t.after(nats.close);
  for (let version = 1; version <= ROWS; version += 1) nats.append('probe', 'p-1', version, 'probe.seen.v1', { number: version });
  await nats.flush();
  const seen = await open(browser, place('log?aggregate=probe'));
  const { page } = seen;
  const rows = page.locator('.tail > li');
  const older = page.getByRole('button', { name: 'Older ones' });
  for (let shown = await rows.count(); shown < ROWS; shown = await rows.count()) {
    await older.waitFor();
    if (shown === 0) continue;
    await older.evaluate((button) => button.click());
    await until(async () => (await rows.count()) > shown || (await older.count()) === 0, `more than ${shown} rows`);
    if ((await older.count()) === 0) break;
  }
  assert.ok((await rows.count()) >= ROWS, `${await rows.count()} rows`);
  await watch(page);
  let version = ROWS;
  for (let tick = 0; tick < SECONDS * 10; tick += 1) {
    for (let one = 0; one < PER_SECOND / 10; one += 1) nats.append('probe', 'p-1', version += 1, 'probe.seen.v1', { number: version });
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  await rows.first().getByText(`"number":${version}`).waitFor();
  const { frames, long } = await page.evaluate(() => { globalThis.noted.ends = true; return globalThis.noted; });
  const shown = await rows.count();
  const worst = Math.round(Math.max(...frames));
  t.diagnostic(`${shown} rows, ${version - ROWS} events in ${SECONDS} s: ${frames.length} frames, the longest ${worst} ms, ${frames.filter((took) => took > 50).length} over 50 ms; ${long.length} tasks over 50 ms: ${long.map(Math.round).join(', ')}`);
  assert.ok(frames.length > SECONDS, `${frames.length} frames`);
  assert.ok(long.length <= LONG_TASKS, `${long.length} tasks over 50 ms`);
  assert.ok(shown <= ROWS + 200, `${shown} rows are kept`);
  await seen.close();
});

test('which view is behind, by how much, and how fast it comes up', async () => {
  const nats = log();
  const seen = await open(browser, place());
  const { page } = seen;
  await page.getByText('All is well').waitFor();
  // Bursts until the overview has one of them: how fast a view applies them depends on the machine.
  let [stock, behind] = [0, false];
  const link = page.getByRole('link', { name: /^storefront is .* behind$/ });
  await until(async () => {
    if (!behind) {
      stock += 1;
      for (let version = 1; version <= 4000; version += 1) nats.append('stock', `gangnam_flood-${stock}`, version, 'stock.received.v1', { quantity: 1, available: version });
      await nats.flush();
    }
    behind ||= await link.evaluateAll((links) => links.length > 0);
    return behind;
  }, 'the view is behind');
  nats.close();
  await link.click();
  await page.getByRole('heading', { name: /^View storefront/ }).waitFor();
  await page.getByRole('row').filter({ hasText: 'v1' }).first().waitFor();
  await page.goto(place());
  await until(async () => (await page.getByText('All is well').count()) === 1, 'it has come up');
  await seen.close();
});
