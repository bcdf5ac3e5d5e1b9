// Behind the counter of a branch: orders to ship and to deliver, goods that come in. For staff.

import { command } from '../assets/api.js';
import { Failure, Time, html, say, to, useState, useTitle } from '../assets/page.js';
import { useFound, useNames, useOrders, useOrdersNow, useShelves } from './data.js';
import { contents } from './orders.js';
import { Stock } from './store.js';
import { t, won } from './texts.js';

export function Counter({ branch }) {
  const shelves = useShelves(branch);
  const named = useNames();
  useTitle(`${t('counter')} · ${t('branch_name', branch)}`, t('mart'), `counter ${branch}`);
  const [since, acted] = useState(undefined);
  const paid = useOrders({ branch, status: 'paid' });
  const shipped = useOrdersNow({ branch, status: 'shipped' }, since);
  const confirmed = useOrdersNow({ branch, status: 'confirmed' });
  return html`<main id="main" tabindex="-1" class="page"><h1>${t('counter')} <span class="quiet small">${t('branch_name', branch)}</span></h1>
    <p class="quiet">${t('counter_lead')}</p>
    <div class="desks">
      <${Desk} list=${paid} title=${t('to_ship')} action="ship" named=${named} acted=${acted} />
      <${Desk} list=${shipped} title=${t('on_way')} action="deliver" named=${named} acted=${acted} />
      <${Desk} list=${confirmed} title=${t('to_confirm')} named=${named} />
    </div>
    <${Receive} branch=${branch} shelves=${shelves} named=${named} />
    <${Shelves} branch=${branch} shelves=${shelves} named=${named} />
  </main>`;
}

/** Orders in one state, and what is done with them next. */
function Desk({ list, title, action, named, acted }) {
  const [busy, work] = useState(new Set());
  const [problem, fail] = useState(null);
  const give = async (order) => {
    work((all) => new Set(all).add(order.id));
    fail(null);
    try {
      acted((await command('order', order.id, action, {})).position);
      say(t(action === 'ship' ? 'shipped' : 'delivered', order.id));
    } catch (caught) {
      caught.detail = t('code', caught.code, caught.detail);
      fail(caught);
    }
    work((all) => { const rest = new Set(all); rest.delete(order.id); return rest; });
  };
  const orders = [...list.orders].reverse();
  return html`<section class="panel" aria-label=${title}><h2>${title} <span class="quiet small">${orders.length}</span></h2>
    <${Failure} problem=${problem ?? list.problem} />
    ${!orders.length && !list.problem && html`<p class="quiet" role="status">${list.ready ? t('nothing_here') : t('loading')}</p>`}
    <ul class="lines">${orders.map((order) => html`<li key=${order.id} data-order=${order.id}>
      <div class="what"><a href=${to(['orders', order.id])}><code>${order.id}</code></a><span>${contents(order, named)}</span>
        <span class="quiet small">${order.member.name ?? order.member.id} · ${won(order.total)} · <${Time} at=${order.placed_at} style="clock" /></span></div>
      ${action && html`<button type="button" class="main" disabled=${busy.has(order.id)} aria-label=${t(`${action}_long`, order.id)} onClick=${() => give(order)}>${t(action)}</button>`}
    </li>`)}</ul>
  </section>`;
}

/** Takes in goods, of what is displayed or of anything that is sold. */
function Receive({ branch, named }) {
  const [typed, type] = useState('');
  const [chosen, choose] = useState(null);
  const [count, set] = useState('10');
  const [state, tell] = useState({});
  const [found] = useFound(typed, 6);
  const receive = async (event) => {
    event.preventDefault();
    if (!chosen) return;
    tell({ busy: true });
    try {
      await receiving(branch, chosen.sku, Number(count));
      say(t('received', count, named(chosen.sku, chosen.name)));
      tell({});
    } catch (problem) {
      tell({ problem });
    }
  };
  return html`<section class="panel"><h2>${t('receive_goods')}</h2>
    <form class="receive" onSubmit=${receive}>
      <label class="grow">${t('which')}<input type="search" value=${typed} autocomplete="off" maxlength="100" placeholder=${t('search_hint')}
        onInput=${(event) => { type(event.target.value); choose(null); }} /></label>
      <label>${t('how_many')}<input type="number" inputmode="numeric" min="1" max="1000000" required value=${count} onInput=${(event) => set(event.target.value)} /></label>
      <button class="main" disabled=${!chosen || state.busy}>${t('receive')}</button>
    </form>
    ${!chosen && typed.trim() && html`<ul class="choices" aria-label=${t('which')}>${(found ?? []).map(({ id, document }) => html`<li key=${id}>
      <button type="button" onClick=${() => { choose({ ...document, sku: id }); type(named(id, document.name)); }}>${named(id, document.name)}</button></li>`)}
      ${found && !found.length && html`<li class="quiet">${t('found_none', typed.trim())}</li>`}</ul>`}
    <${Failure} problem=${state.problem} />
  </section>`;
}

const receiving = (branch, sku, quantity) => command('stock', `${branch}_${sku}`, 'receive', { quantity });

function Shelves({ branch, shelves, named }) {
  const [only, set] = useState(false);
  const products = [...shelves.bySku.values()].filter((product) => !only || product.sold_out);
  products.sort((a, b) => a.available - b.available || a.sku.localeCompare(b.sku));
  const receive = async (product, count) => {
    try {
      await receiving(branch, product.sku, count);
      say(t('received', count, named(product.sku, product.name)));
    } catch (problem) {
      say(problem.detail || problem.message, 'bad');
    }
  };
  return html`<section class="panel"><div class="row spread"><h2>${t('stocks')}</h2>
      <label class="check"><input type="checkbox" checked=${only} onChange=${(event) => set(event.target.checked)} />${t('only_sold_out')}</label></div>
    <${Failure} problem=${shelves.problem} />
    ${!products.length && html`<p class="quiet">${shelves.ready ? t('nothing_here') : t('loading')}</p>`}
    ${products.length > 0 && html`<div class="wide" tabindex="0" role="region" aria-label=${t('stocks')}><table><thead><tr><th scope="col">${t('product')}</th><th scope="col">${t('stock_head')}</th><th scope="col"><span class="hidden">${t('receive')}</span></th></tr></thead>
      <tbody>${products.map((product) => html`<tr key=${product.sku} data-sku=${product.sku}><td>${named(product.sku, product.name)}</td><td><${Stock} product=${product} /></td>
        <td class="number"><button type="button" aria-label=${`${t('received_long', named(product.sku, product.name))} +10`} onClick=${() => receive(product, 10)}>+10</button></td></tr>`)}</tbody></table></div>`}
  </section>`;
}
