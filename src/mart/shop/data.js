// What the shop knows: the branch and its shelves, the basket, and who shops. All of it comes from the public
// API; what is remembered here is the reader's own.

import { command, newId, read, readAll, token } from '../assets/api.js';
import { useLive } from '../assets/live.js';
import { useAsked, useEffect, useLanguage, useState, useToken } from '../assets/page.js';

const BASKET = 'mart.basket';
const MEMBER = 'mart.member';
const AGAIN_MS = 2000;
export const MOST_LINES = 50;
export const MOST_OF_ONE = 99;
export const SAMPLE_MEMBERS = ['m-haneul', 'm-bada', 'm-sol', 'm-byeol', 'm-garam', 'm-nuri'];

const watchers = new Set();
function kept(name, empty) {
  return {
    get() {
      try { return JSON.parse(localStorage.getItem(name)) ?? empty; } catch { return empty; }
    },
    set(value) {
      localStorage.setItem(name, JSON.stringify(value));
      for (const told of watchers) told();
    },
  };
}
const member = kept(MEMBER, '');
const baskets = kept(BASKET, {});
// Another tab of the same reader has the same basket.
window.addEventListener('storage', () => { for (const told of watchers) told(); });

function useKept() {
  const [, tell] = useState(0);
  useEffect(() => {
    const told = () => tell((count) => count + 1);
    watchers.add(told);
    return () => watchers.delete(told);
  }, []);
}

/** Returns whose orders these are: the token's bearer, or whoever the reader says. */
export function useMember() {
  useKept();
  return (useToken() && token.claims()?.sub) || member.get();
}
export const isMember = (id) => member.set(id);

/** The basket of a branch, and what changes it. */
export function useBasket(branch) {
  useKept();
  const lines = baskets.get()[branch]?.lines ?? [];
  const write = (change) => {
    const all = baskets.get();
    const lines = change(all[branch]?.lines ?? []);
    // Another basket is another order: the number that was chosen for the one before is not used for it.
    baskets.set({ ...all, [branch]: { lines } });
  };
  return {
    lines,
    units: lines.reduce((sum, line) => sum + line.quantity, 0),
    total: lines.reduce((sum, line) => sum + line.quantity * line.price, 0),
    quantity: (sku) => lines.find((line) => line.sku === sku)?.quantity ?? 0,
    set: (product, quantity) => write((lines) => {
      const bounded = Math.min(quantity, MOST_OF_ONE);
      const { sku, name, price } = product;
      if (bounded <= 0) return lines.filter((line) => line.sku !== sku);
      const changed = { sku, name, price, quantity: bounded };
      return lines.some((line) => line.sku === sku)
        ? lines.map((line) => (line.sku === sku ? changed : line))
        : [...lines, changed];
    }),
    clear: () => write(() => []),
  };
}

/**
 * Places the order of a basket. Its number is kept with the basket before it is sent: however often this is
 * tried, after a reload too, it is one order.
 */
export async function place(branch, who) {
  const all = baskets.get();
  const basket = all[branch];
  const id = basket.order ?? newId('o-');
  baskets.set({ ...all, [branch]: { ...basket, order: id } });
  const lines = basket.lines.map(({ sku, quantity, price }) => ({ sku, quantity, unit_price: price }));
  const order = { member: who, branch, lines };
  const { position } = await command('order', id, 'place', order, `place-${id}`).catch((problem) => {
    // It got there earlier, and the answer did not get here.
    if (problem.code === 'already_placed') return {};
    throw problem;
  });
  baskets.set({ ...baskets.get(), [branch]: { lines: [] } });
  return { id, position };
}

/** The branches that display something. Where none does yet, it is asked again: a service that begins reads its log first. */
export function useBranches() {
  const [round, next] = useState(0);
  const [answer, problem, again] = useAsked((signal) => read('views/storefront?limit=1&facets=branch', { signal }), [round]);
  const branches = answer?.facets.branch.values.map(({ value }) => value);
  useEffect(() => {
    if (branches?.length) return undefined;
    const timer = setTimeout(() => next((count) => count + 1), AGAIN_MS);
    return () => clearTimeout(timer);
  }, [answer, problem]);
  return [branches, problem, again];
}

/** What a branch displays, as it is now: products by section, as long as the section's period lasts. */
export function useShelves(branch) {
  const live = useLive(branch && `views/storefront/live?branch=${encodeURIComponent(branch)}`);
  const [now, tick] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => tick(Date.now()), 30_000);
    return () => clearInterval(timer);
  }, []);
  const sections = new Map();
  const bySku = new Map();
  for (const { document } of live.documents.values()) {
    if (document.from && Date.parse(document.from) > now) continue;
    if (document.until && Date.parse(document.until) <= now) continue;
    if (document.name === null || document.price === null) continue;
    if (!sections.has(document.section)) sections.set(document.section, { ...document, products: [] });
    sections.get(document.section).products.push(document);
    bySku.set(document.sku, document);
  }
  for (const section of sections.values()) section.products.sort((a, b) => a.rank - b.rank || a.sku.localeCompare(b.sku));
  return { ...live, sections: [...sections.values()].sort((a, b) => a.section.localeCompare(b.section)), bySku };
}

/** The English names, which the shelves have none of; nothing is read where Korean is. */
export function useNames() {
  const tag = useLanguage();
  const [products] = useAsked(async (signal) => (tag === 'en' ? readAll('views/product?sort=name', { signal }) : []), [tag]);
  const english = new Map((products ?? []).map(({ id, document }) => [id, document.name_en]));
  return (sku, name) => (tag === 'en' && english.get(sku)) || name || sku;
}

/** What products are called so. */
export function useFound(q, limit = 24) {
  const [settled, settle] = useState('');
  useEffect(() => {
    const timer = setTimeout(() => settle(q.trim()), q ? 120 : 0);
    return () => clearTimeout(timer);
  }, [q]);
  const [found, problem] = useAsked(async (signal) => {
    if (!settled) return { q: '', items: [] };
    const query = new URLSearchParams({ q: settled, status: 'listed', limit });
    return { q: settled, ...(await read(`views/product?${query}`, { signal })) };
  }, [settled]);
  return [found?.q === q.trim() ? found.items : undefined, problem];
}

/** Orders that fulfil these filters, live, the latest first. */
export function useOrders(filters) {
  const live = useLive(filters && `views/order/live?${new URLSearchParams(filters)}`);
  const orders = [...live.documents.values()].map(({ document }) => document);
  return { ...live, orders: latestFirst(orders) };
}

/** The same, asked for every so often: a page that shows many lists has no stream for each. */
export function useOrdersNow(filters, since) {
  const [round, next] = useState(0);
  const query = new URLSearchParams({ ...filters, sort: '-placed_at', limit: 200 });
  const [page, problem] = useAsked((signal) => read(`views/order?${query}`, { since, signal }), [`${query}`, since, round]);
  useEffect(() => {
    const timer = setTimeout(() => next((count) => count + 1), AGAIN_MS);
    return () => clearTimeout(timer);
  }, [page, problem]);
  return { orders: latestFirst((page?.items ?? []).map(({ document }) => document)), ready: Boolean(page), problem: page && problem?.passes ? null : problem };
}

const latestFirst = (orders) => orders.sort((a, b) => b.placed_at.localeCompare(a.placed_at));
