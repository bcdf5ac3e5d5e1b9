// The basket: what would be ordered, whether it is still there, and ordering it.

import { Failure, go, html, say, to, useEffect, useState, useTitle } from '../assets/page.js';
import { MOST_OF_ONE, place, useBasket, useMember, useNames, useShelves } from './data.js';
import { t, won } from './texts.js';

export function Basket({ branch }) {
  const basket = useBasket(branch);
  const shelves = useShelves(branch);
  const named = useNames();
  const who = useMember();
  const [state, set] = useState({});
  useTitle(t('basket'), t('mart'), 'basket');
  const lines = basket.lines.map((line) => ({ ...line, shelf: shelves.bySku.get(line.sku), shown: named(line.sku, line.name) }));
  // An order at another price than the branch's is turned down: the basket follows it, and says so.
  useEffect(() => {
    for (const { sku, name, price, quantity, shelf, shown } of lines) {
      if (shelf && shelf.price !== price) {
        basket.set({ sku, name, price: shelf.price }, quantity);
        say(t('price_warning', shown), 'warn');
      }
    }
  });
  const gone = lines.filter(({ shelf }) => shelf?.sold_out || shelf?.status === 'discontinued');
  const few = lines.filter((line) => line.shelf && !line.shelf.sold_out && line.shelf.available < line.quantity);
  const order = async () => {
    if (!who) { go(['who'], { after: `basket/${branch}` }); return; }
    set({ busy: true });
    try {
      const { id, position } = await place(branch, who);
      go(['orders', id], { since: position });
    } catch (problem) {
      set({ problem });
    }
  };
  if (!lines.length) {
    return html`<main id="main" tabindex="-1" class="page"><h1>${t('basket')}</h1>
      <div class="empty"><p>${t('basket_empty')}</p><p><a class="button main" href=${to(['store', branch])}>${t('to_store')}</a></p></div></main>`;
  }
  return html`<main id="main" tabindex="-1" class="page narrow"><h1>${t('basket')} <span class="quiet small">${t('branch_name', branch)}</span></h1>
    <ul class="lines">${lines.map((line) => html`<li key=${line.sku}>
      <div class="what"><strong>${line.shown}</strong><span class="quiet">${won(line.price)}</span></div>
      <label class="pick"><span class="hidden">${t('quantity')}: ${line.shown}</span>
        <input type="number" inputmode="numeric" min="1" max=${MOST_OF_ONE} value=${line.quantity} onChange=${(event) => basket.set(line, Math.max(1, Math.trunc(Number(event.target.value)) || 1))} /></label>
      <span class="sum">${won(line.price * line.quantity)}</span>
      <button type="button" class="plain" aria-label=${t('remove_long', line.shown)} onClick=${() => basket.set(line, 0)}>${t('remove')}</button>
    </li>`)}</ul>
    <div aria-live="polite">
      ${gone.map((line) => html`<p class="note bad" key=${line.sku}>${t('gone_warning', line.shown)}</p>`)}
      ${few.map((line) => html`<p class="note warn" key=${line.sku}>${t('few_warning', line.shown, line.shelf.available)}</p>`)}
    </div>
    <p class="row spread sumline"><span>${t('total')}</span><strong>${won(basket.total)}</strong></p>
    <${Failure} problem=${state.problem} again=${order} />
    <p><button type="button" class="main big" disabled=${state.busy || gone.length > 0 || few.length > 0} onClick=${order}>${state.busy ? t('ordering') : t('order')}</button></p>
    ${!who && html`<p class="quiet">${t('who_first')}</p>`}
  </main>`;
}
