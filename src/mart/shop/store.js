// The shelves of a branch as a shopper sees them, and the search.

import { Failure, Time, html, replace, say, useRef, useState, useTitle, useEffect } from '../assets/page.js';
import { MOST_LINES, useBasket, useFound, useNames, useShelves } from './data.js';
import { t, won } from './texts.js';

const FEW = 5;

export function Store({ branch, q }) {
  const shelves = useShelves(branch);
  const named = useNames();
  const [typed, type] = useState(q);
  useEffect(() => { if (q !== typed.trim()) type(q); }, [q]);
  useTitle(t('branch_name', branch), t('mart'), branch);
  const search = (event) => {
    type(event.target.value);
    replace(['store', branch], { q: event.target.value.trim() });
  };
  return html`<main id="main" tabindex="-1" class="page">
    <div class="row spread top"><h1>${branch ? t('branch_name', branch) : t('no_branches')}</h1>
      <span class=${`chip ${shelves.state === 'live' ? 'good' : 'warn'}`} role="status">${shelves.state === 'live' ? t('live_long') : t('waiting')}</span></div>
    <form role="search" onSubmit=${(event) => event.preventDefault()}>
      <label class="search"><span class="hidden">${t('search')}</span>
        <input type="search" placeholder=${`${t('search')}: ${t('search_hint')}`} value=${typed} onInput=${search} autocomplete="off" enterkeyhint="search" maxlength="100" /></label>
    </form>
    <${Failure} problem=${shelves.problem} />
    ${typed.trim()
      ? html`<${Found} branch=${branch} q=${typed} shelves=${shelves} named=${named} />`
      : html`<${Sections} branch=${branch} shelves=${shelves} named=${named} />`}
  </main>`;
}

function Sections({ branch, shelves, named }) {
  if (!shelves.ready && !shelves.sections.length) return html`<p class="empty" role="status">${t('loading')}</p>`;
  if (!shelves.sections.length) return html`<div class="empty"><p>${t('no_sections')}</p><p class="small">${t('no_sections_hint')}</p></div>`;
  return shelves.sections.map((section) => html`<section key=${section.section} aria-labelledby=${`s-${section.section}`}>
    <div class="row spread"><h2 id=${`s-${section.section}`} lang="ko">${section.title}</h2>
      ${section.until && html`<span class="quiet small"><${Until} at=${section.until} /></span>`}</div>
    <ul class="goods">${section.products.map((product) => html`<${Card} key=${product.sku} branch=${branch} product=${product} named=${named} />`)}</ul>
  </section>`);
}

/** The end of a period, where the language has its word: before it or after. */
function Until({ at }) {
  const [before, after] = t('until', '|').split('|');
  return html`${before}<${Time} at=${at} style="date" />${after}`;
}

function Found({ branch, q, shelves, named }) {
  const [found, problem] = useFound(q);
  const last = useRef();
  if (found) last.current = found;
  const shown = found ?? last.current;
  if (problem) return html`<${Failure} problem=${problem} />`;
  if (!shown) return html`<p class="empty" role="status">${t('searching')}</p>`;
  const products = shown.map(({ id, document }) => ({ ...document, available: null, ...shelves.bySku.get(id), sku: id, name: document.name }));
  return html`<section aria-labelledby="found"><h2 class="hidden" id="found">${t('search')}</h2>
    <p class="quiet" role="status">${found && (products.length ? t('found', products.length) : t('found_none', q.trim()))}</p>
    <ul class="goods">${products.map((product) => html`<${Card} key=${product.sku} branch=${branch} product=${product} named=${named} />`)}</ul>
  </section>`;
}

/** Says how many there are, before anybody asks for one. */
export function Stock({ product }) {
  if (product.status === 'discontinued') return html`<span class="chip bad">${t('unlisted')}</span>`;
  if (product.available === null) return html`<span class="chip">${t('not_here')}</span>`;
  if (product.sold_out) return html`<span class="chip bad">${t('sold_out')}</span>`;
  return product.available <= FEW
    ? html`<span class="chip warn">${t('few', product.available)}</span>`
    : html`<span class="chip good">${t('stock', product.available)}</span>`;
}

function Card({ branch, product, named }) {
  const basket = useBasket(branch);
  const count = basket.quantity(product.sku);
  const name = named(product.sku, product.name);
  const gone = product.sold_out === true || product.status === 'discontinued';
  const add = () => {
    if (!count && basket.lines.length >= MOST_LINES) { say(t('full'), 'warn'); return; }
    basket.set(product, count + 1);
    if (!count) say(t('added', name));
  };
  return html`<li class=${`card ${gone ? 'gone' : ''}`} data-sku=${product.sku}>
    <${Picture} category=${product.category} />
    <div class="what"><h3>${name}</h3><p class="price">${won(product.price)}</p></div>
    <p class="state"><${Stock} product=${product} /></p>
    ${count === 0
      ? html`<button type="button" class="add" disabled=${gone} onClick=${add} aria-label=${gone ? `${name}: ${t('sold_out')}` : t('add_long', name)}>${gone ? t('sold_out') : t('add')}</button>`
      : html`<div class="amount" role="group" aria-label=${name}>
          <button type="button" aria-label=${t('less', name)} onClick=${() => basket.set(product, count - 1)}>−</button>
          <output aria-label=${t('quantity')}>${count}</output>
          <button type="button" aria-label=${t('more', name)} disabled=${gone || (product.available !== null && count >= product.available)} onClick=${add}>+</button></div>`}
  </li>`;
}

/* A drawing for each category, so that shelves are told apart at a glance without a photograph. */
const DRAWINGS = {
  fruit: 'M24 15c-4-4-13-2-13 8 0 9 6 15 9 15 2 0 3-1 4-1s2 1 4 1c3 0 9-6 9-15 0-10-9-12-13-8zM24 14c0-5 3-8 7-8 0 5-3 8-7 8z',
  vegetable: 'M24 42V24M24 30C12 30 8 22 8 12c10 0 16 6 16 18zm0-6c0-10 5-15 16-16 0 11-6 16-16 16z',
  meat: 'M30 8c8 0 12 8 8 16-4 9-14 9-17 12l-5 5-4-1-1-4 5-5C19 28 17 8 30 8zm1 7a4 4 0 1 0 0 8 4 4 0 0 0 0-8z',
  fish: 'M6 24c6-10 20-12 28-2l8-8v20l-8-8c-8 10-22 8-28-2zm8-2a2 2 0 1 0 0 .1z',
  'egg-tofu': 'M24 6c7 0 14 12 14 21a14 14 0 0 1-28 0C10 18 17 6 24 6z',
  noodles: 'M6 22h36a18 18 0 0 1-9 16v4H15v-4A18 18 0 0 1 6 22zM14 18c0-6 4-4 4-10M24 18c0-6 4-4 4-10M34 18c0-6 4-4 4-10',
  snack: 'M12 8h24l-3 4 3 28H12l3-28zm6 12h12v8H18z',
  frozen: 'M24 4v40M7 14l34 20M41 14 7 34M18 8l6 6 6-6M18 40l6-6 6 6',
  drink: 'M19 4h10v8c0 4 5 5 5 12v18H14V24c0-7 5-8 5-12zM14 28h20',
};
const OTHER = 'M8 16 24 8l16 8v18l-16 8-16-8zM8 16l16 8 16-8M24 24v18';

export function Picture({ category }) {
  return html`<svg class=${`picture ${category ?? ''}`} viewBox="0 0 48 48" aria-hidden="true" focusable="false"><path d=${DRAWINGS[category] ?? OTHER} /></svg>`;
}
