// The console's frame: where one is, what there is, and finding an id.

import { Access, Announcements, LanguageSwitch, Questions, Whole, go, html, render, skip, to, useLanguage, usePlace } from '../assets/page.js';
import { Aggregate } from './aggregate.js';
import { Command } from './command.js';
import { useOverview } from './data.js';
import { Document } from './document.js';
import { Job, Jobs } from './jobs.js';
import { Overview } from './overview.js';
import { Parked, ParkedOne } from './parked.js';
import { Page } from './parts.js';
import { Process, Processes } from './processes.js';
import { Refusals } from './refusals.js';
import { Replicas } from './replicas.js';
import { Search } from './search.js';
import { Tail } from './tail.js';
import { t } from './texts.js';
import { View, Views } from './views.js';

const NAV = ['overview', 'views', 'parked', 'processes', 'log', 'refusals', 'replicas', 'jobs'];
const NAMES = { log: 'tail' };

function Console() {
  useLanguage();
  const { parts, query } = usePlace();
  const page = parts[0] ?? 'overview';
  return html`
    <a class="skip" href="#main" onClick=${skip}>${t('skip')}</a>
    <${Head} page=${page} q=${page === 'search' ? query.get('q') ?? '' : ''} />
    <${Whole} key=${parts.join('/')}><${Shown} parts=${parts} page=${page} query=${Object.fromEntries(query)} /></${Whole}>
    <${Questions} cancel=${t('keep')} />
    <${Announcements} />`;
}

function Shown({ parts: [, one, two, three], page, query }) {
  switch (page) {
    case 'overview': return html`<${Overview} />`;
    case 'views': return one ? html`<${View} name=${one} />` : html`<${Views} />`;
    case 'parked': return three ? html`<${ParkedOne} view=${one} aggregate=${two} id=${three} ...${query} />` : html`<${Parked} key=${query.view} ...${query} />`;
    case 'processes': return two ? html`<${Process} process=${one} id=${two} />` : html`<${Processes} ...${query} />`;
    case 'aggregates': return html`<${Aggregate} aggregate=${one} id=${two ?? ''} />`;
    case 'documents': return html`<${Document} view=${one} id=${two ?? ''} />`;
    case 'commands': return html`<${Command} key=${query.id} ...${query} />`;
    case 'jobs': return one ? html`<${Job} id=${one} />` : html`<${Jobs} />`;
    case 'replicas': return html`<${Replicas} ...${query} />`;
    case 'log': return html`<${Tail} key=${JSON.stringify(query)} ...${query} />`;
    case 'refusals': return html`<${Refusals} />`;
    case 'search': return html`<${Search} q=${(query.q ?? '').trim()} />`;
    default: return html`<${Page} title=${t('no_page')}><p><a href=${to([])}>${t('overview')}</a></p></${Page}>`;
  }
}

function Head({ page, q }) {
  const { overview } = useOverview();
  const parked = overview?.views.reduce((sum, view) => sum + (view.parked ?? 0), 0) ?? 0;
  const find = (event) => {
    event.preventDefault();
    const given = event.target.elements.q.value.trim();
    if (given) go(['search'], { q: given });
  };
  return html`<header class="head"><div class="bar">
    <a class="mark" href=${to([])}><img src="assets/icon.svg" alt="" width="24" height="24" /><span>${t('console')}</span></a>
    <form role="search" class="find" onSubmit=${find}><label><span class="hidden">${t('search')}</span><input type="search" name="q" key=${q} defaultValue=${q} placeholder=${`${t('search')}: ${t('search_hint')}`} maxlength="128" autocomplete="off" spellcheck=${false} /></label></form>
    <span class="tools"><${Access} /><${LanguageSwitch} /></span>
    <nav aria-label=${t('nav')}>${NAV.map((name) => html`<a key=${name} href=${to(name === 'overview' ? [] : [name])} ...${page === name ? { 'aria-current': 'page' } : {}}>${t(NAMES[name] ?? name)}${name === 'parked' && parked > 0 && html` <span class="count">${parked}</span>`}</a>`)}</nav>
  </div></header>`;
}

const root = document.getElementById('page');
// What stood there until this has come.
root.replaceChildren();
render(html`<${Console} />`, root);
