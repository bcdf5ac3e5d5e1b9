// Chromium, and what holds for every page that it opens: nothing on the console, nothing against the policy,
// nothing asked of another host.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
/** How long a page may take to show something, on a slow machine. */
export const PATIENCE_MS = 15_000;

/** A window of 1,280 by 800 px at a zoom of 200 %. */
export const ZOOMED = { width: 640, height: 400, deviceScaleFactor: 2 };

/** Starts the browser. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.HEADWATER_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

/** Opens a page as somebody who is new. `faults` lists what must not be; `expected` lets some be. */
export async function open(browser, url, { expected = [], width = 1280, height = 900, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, locale: 'en-US', ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const faults = [];
  const fault = (text) => { if (!expected.some((known) => known.test(text))) faults.push(text); };
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) fault(`console: ${message.text()} (${message.location().url})`); });
  page.on('pageerror', (error) => fault(`error: ${error.stack ?? error}`));
  const { origin } = new URL(url);
  page.on('request', (request) => { if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) fault(`request to ${request.url()}`); });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.goto(url);
  return { page, context, faults, close: async () => { await context.close(); assert.deepEqual(faults, []); } };
}

/** Holds a page against axe's rules. */
export async function accessible(page, where) {
  // Text that is still fading in has another contrast than it will have.
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => {}))));
  await page.evaluate(AXE);
  const found = await page.evaluate((rules) => globalThis.axe.run(document, { runOnly: rules }), RULES);
  const violations = found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(' | ')}`);
  assert.deepEqual(violations, [], where);
}

/** Holds a page to not being wider than the window. */
export async function fits(page, where) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${where}: ${content} px in a window of ${window} px`);
}

/** Polls until something holds. */
export async function until(holds, what) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `not in time: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

/** Loads a page anew, with nothing kept, and returns how many bytes its own files took on the wire. */
export async function weigh(browser, url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const network = await context.newCDPSession(page);
  await network.send('Network.enable');
  const own = new Set();
  let bytes = 0;
  network.on('Network.responseReceived', ({ requestId, type }) => { if (type !== 'Fetch' && type !== 'XHR') own.add(requestId); });
  network.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => { if (own.has(requestId)) bytes += encodedDataLength; });
  await page.goto(url, { waitUntil: 'load' });
  await page.waitForSelector('h1');
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
  await context.close();
  return { bytes, paint };
}
