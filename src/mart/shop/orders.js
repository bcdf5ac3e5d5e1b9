// A member's orders, and one order's progress as it happens.

import { command } from '../assets/api.js';
import { useLive } from '../assets/live.js';
import { Failure, Time, ask, go, html, say, to, useEffect, useState, useTitle } from '../assets/page.js';
import { useBasket, useMember, useNames, useOrders } from './data.js';
import { t, won } from './texts.js';

const KINDS = { placed: 'news', confirmed: 'warn', paid: 'news', shipped: 'news', delivered: 'good', rejected: 'bad', cancelled: 'bad' };
const WAY = ['placed', 'confirmed', 'paid', 'shipped', 'delivered'];

export const State = ({ status }) => html`<span class=${`chip ${KINDS[status] ?? ''}`}>${t('state', status)}</span>`;

/** The words of an order's contents, in one line. */
export const contents = (order, named) => order.lines.map((line) => `${named(line.sku, line.name)} × ${line.quantity}`).join(', ');

export function Orders() {
  const member = useMember();
  const live = useOrders(member ? { member } : null);
  const named = useNames();
  useTitle(t('orders'), t('mart'), 'orders');
  return html`<main id="main" tabindex="-1" class="page narrow"><h1>${t('orders')}</h1>
    ${!member && html`<div class="empty"><p>${t('who_first')}</p><p><a class="button main" href=${to(['who'], { after: 'orders' })}>${t('who')}</a></p></div>`}
    <${Failure} problem=${live.problem} />
    ${member && !live.ready && !live.orders.length && html`<p class="empty" role="status">${t('loading')}</p>`}
    ${member && live.ready && !live.problem && !live.orders.length && html`<p class="empty">${t('orders_none')}</p>`}
    <ul class="lines">${live.orders.map((order) => html`<li key=${order.id}>
      <div class="what"><a href=${to(['orders', order.id])}>${contents(order, named)}</a><span class="quiet small"><${Time} at=${order.placed_at} /> · ${t('branch_name', order.branch)}</span></div>
      <span class="sum">${won(order.total)}</span><${State} status=${order.status} /></li>`)}</ul>
  </main>`;
}

export function Order({ id, since }) {
  const live = useLive(`views/order/${encodeURIComponent(id)}/live`, since);
  const named = useNames();
  const order = live.documents.get(id)?.document;
  const [busy, work] = useState(false);
  const [problem, fail] = useState(null);
  const basket = useBasket(order?.branch);
  useTitle(`${t('order_of')} ${id}`, t('mart'), id);
  const status = order?.status;
  // What was waited for has come: the wait for a position is over, and a link to this page needs none.
  useEffect(() => { if (status && since) history.replaceState(null, '', to(['orders', id])); }, [status]);
  const give = async (name, body, done) => {
    work(true);
    fail(null);
    try {
      await command('order', id, name, body);
      if (done) say(done);
    } catch (caught) {
      caught.detail = t('code', caught.code, caught.detail);
      fail(caught);
    }
    work(false);
  };
  if (!order) {
    const none = live.problem?.status === 404;
    return html`<main id="main" tabindex="-1" class="page narrow"><h1>${t('order_of')} <code>${id}</code></h1>
      ${none ? html`<p class="empty">${t('no_order')}</p>` : html`<${Failure} problem=${live.problem} />`}
      ${!live.problem && html`<p class="empty" role="status">${t('loading')}</p>`}</main>`;
  }
  const cancel = () => ask({
    title: t('cancel'), text: t('cancel_sure'), action: t('cancel'), danger: true,
    go: () => give('cancel', { reason: t('cancel_reason') }),
  });
  const payment = `pay-${id}`.slice(0, 100);
  const again = () => {
    for (const line of order.lines) basket.set({ sku: line.sku, name: line.name ?? line.sku, price: line.unit_price }, line.quantity);
    go(['basket', order.branch]);
  };
  return html`<main id="main" tabindex="-1" class="page narrow">
    <div class="row spread top"><h1>${t('order_of')} <code>${id}</code></h1>
      <span class=${`chip ${live.state === 'live' ? 'good' : 'warn'}`}>${live.state === 'live' ? t('live') : t('waiting')}</span></div>
    <section class="panel" aria-label=${t('status')}>
      <p role="status" class="lead" data-status=${order.status}><${State} status=${order.status} /> ${t('state_long', order.status)}${order.reason && html` <strong>${t('reason', order.reason)}</strong>`}</p>
      <${Way} order=${order} />
      <${Failure} problem=${problem} />
      <p class="row">
        ${status === 'confirmed' && html`<button type="button" class="main big" disabled=${busy} onClick=${() => give('pay', { payment, amount: order.total })}>${t('pay', won(order.total))}</button>`}
        ${['placed', 'confirmed', 'paid'].includes(status) && html`<button type="button" disabled=${busy} onClick=${cancel}>${t('cancel')}</button>`}
        ${['delivered', 'rejected', 'cancelled'].includes(status) && html`<button type="button" onClick=${again}>${t('again')}</button>`}
      </p>
    </section>
    <section class="panel"><h2>${t('lines')}</h2>
      <div class="wide"><table><thead><tr><th scope="col">${t('product')}</th><th scope="col" class="number">${t('quantity')}</th><th scope="col" class="number">${t('price')}</th></tr></thead>
        <tbody>${order.lines.map((line) => html`<tr key=${line.sku}><td>${named(line.sku, line.name)}</td><td class="number">${line.quantity}</td><td class="number">${won(line.unit_price * line.quantity)}</td></tr>`)}
        <tr><th scope="row" colspan="2">${t('total')}</th><td class="number"><strong>${won(order.total)}</strong></td></tr></tbody></table></div>
    </section>
  </main>`;
}

/** The steps that were taken, with their time, and those that are to come. */
function Way({ order }) {
  const taken = order.timeline;
  const ended = ['rejected', 'cancelled'].includes(order.status);
  const ahead = ended ? [] : WAY.slice(WAY.indexOf(order.status) + 1);
  return html`<ol class="way" aria-label=${t('timeline')}>
    ${taken.map((step, at) => html`<li key=${step.status} class=${`taken ${KINDS[step.status]} ${at === taken.length - 1 ? 'now' : ''}`} aria-current=${at === taken.length - 1 ? 'step' : undefined}><span>${t('state', step.status)}</span><${Time} at=${step.at} style="clock" /></li>`)}
    ${ahead.map((status) => html`<li key=${status} class="ahead"><span>${t('state', status)}</span></li>`)}
  </ol>`;
}
