// The shop's frame: where one is, and what is there.

import { Access, Announcements, Failure, LanguageSwitch, Questions, Whole, go, html, render, skip, to, useLanguage, usePlace } from '../assets/page.js';
import { Basket } from './basket.js';
import { Counter } from './branch.js';
import { useBasket, useBranches, useMember } from './data.js';
import { Order, Orders } from './orders.js';
import { Store } from './store.js';
import { t } from './texts.js';
import { Who } from './who.js';

const LAST_BRANCH = 'mart.branch';

function Shop() {
  useLanguage();
  const { parts, query } = usePlace();
  const [branches, problem, again] = useBranches();
  const named = parts[1] ?? query.get('branch') ?? localStorage.getItem(LAST_BRANCH);
  const branch = (['store', 'basket', 'counter'].includes(parts[0]) && parts[1])
    || (branches?.includes(named) ? named : branches?.[0] ?? '');
  if (branch && branch !== localStorage.getItem(LAST_BRANCH)) localStorage.setItem(LAST_BRANCH, branch);
  const page = parts[0] ?? 'store';
  return html`
    <a class="skip" href="#main" onClick=${skip}>${t('skip')}</a>
    <${Head} page=${page} branch=${branch} branches=${branches ?? []} />
    <${Whole} key=${page}>
      ${problem && !branches && html`<main id="main" tabindex="-1" class="page"><${Failure} problem=${problem} again=${again} /></main>`}
      ${branches && html`<${Page} page=${page} id=${parts[1]} branch=${branch} query=${query} />`}
    </${Whole}>
    <${Questions} cancel=${t('keep')} />
    <${Announcements} />`;
}

function Page({ page, id, branch, query }) {
  switch (page) {
    case 'store': return html`<${Store} key=${branch} branch=${branch} q=${query.get('q') ?? ''} />`;
    case 'basket': return html`<${Basket} key=${branch} branch=${branch} />`;
    case 'orders': return id
      ? html`<${Order} key=${id} id=${id} since=${query.get('since')} />`
      : html`<${Orders} />`;
    case 'counter': return html`<${Counter} key=${branch} branch=${branch} />`;
    case 'who': return html`<${Who} after=${query.get('after')} />`;
    default: return html`<main id="main" tabindex="-1" class="page"><h1>${t('no_page')}</h1><p><a href=${to(['store'])}>${t('to_store')}</a></p></main>`;
  }
}

function Head({ page, branch, branches }) {
  const { units } = useBasket(branch);
  const who = useMember();
  const at = (name) => (page === name ? { 'aria-current': 'page' } : {});
  const beside = branches.includes(branch) || !branch ? branches : [...branches, branch];
  return html`<header class="head"><div class="bar">
    <a class="mark" href=${to(['store', branch].filter(Boolean))}><img src="assets/icon.svg" alt="" width="26" height="26" /><span>${t('mart')}</span></a>
    ${beside.length > 0 && html`<label class="branches"><span class="hidden">${t('branch')}</span>
      <select value=${branch} onChange=${(event) => go([page === 'counter' || page === 'basket' ? page : 'store', event.target.value])}>
        ${beside.map((id) => html`<option key=${id} value=${id}>${t('branch_name', id)}</option>`)}</select></label>`}
    <nav aria-label=${t('mart')}>
      <a href=${to(['store', branch].filter(Boolean))} ...${at('store')}>${t('store')}</a>
      <a href=${to(['basket', branch].filter(Boolean))} ...${at('basket')}>${t('basket')}${units > 0 && html` <span class="count">${units}<span class="hidden"> ${t('in_basket', units)}</span></span>`}</a>
      <a href=${to(['orders'])} ...${at('orders')}>${t('orders')}</a>
      <a href=${to(['counter', branch].filter(Boolean))} ...${at('counter')}>${t('counter')}</a>
      <a href=${to(['who'])} ...${at('who')}>${who || t('who')}</a>
    </nav>
    <span class="tools"><${Access} /><${LanguageSwitch} /></span>
  </div></header>`;
}

render(html`<${Shop} />`, document.getElementById('page'));
