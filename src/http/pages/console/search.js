// What there is under an id, whatever kind it is of.

import { read } from '../assets/api.js';
import { html, to, useAsked, useTitle } from '../assets/page.js';
import { useAggregates } from './data.js';
import { Asked, Page } from './parts.js';
import { t } from './texts.js';

export function Search({ q }) {
  const { aggregates, processes, views, known } = useAggregates();
  const [aggregate, ...rest] = q.split('/');
  const named = rest.length === 1 && [...aggregates, ...processes].includes(aggregate);
  const id = named ? rest[0] : q;
  const isId = /^[A-Za-z0-9_-]{1,64}$/.test(id);
  useTitle(`${t('search')}: ${q}`, t('console'), q);
  const asked = useAsked(async (signal) => {
    if (!known) return undefined;
    if (!isId) return [];
    const tried = (named ? [aggregate] : [...aggregates, ...processes]).map((name) => read(`ops/homes/${name}/${id}`, { signal }).catch(() => null));
    return (await Promise.all(tried)).filter((home) => home?.version > 0);
  }, [q, known, aggregates.join()]);
  if (!q) return html`<${Page} title=${t('search')}><p class="empty">${t('search_lead')}</p></${Page}>`;
  return html`<${Page} title=${t('found', q)}>
    <${Asked} asked=${asked}>${(found) => html`
      <section class="panel"><h2>${t('is_aggregate')}</h2>${found.length === 0 ? html`<p class="quiet">${t('not_found')}</p>` : html`<ul>${found.map((home) => html`<li key=${home.aggregate}><a href=${to([processes.includes(home.aggregate) ? 'processes' : 'aggregates', home.aggregate, id])}>${home.aggregate}/${id}</a> <span class="quiet small">${t('commits_n', home.version)} · ${t('home')}: ${home.home ?? '–'}</span></li>`)}</ul>`}</section>
      ${isId && html`<section class="panel"><h2>${t('is_document')}</h2><ul class="row plain-list">${views.map((view) => html`<li key=${view}><a href=${to(['documents', view, id])}>${view}/${id}</a></li>`)}</ul></section>`}
      <section class="panel"><h2>${t('is_command')}</h2><p><a href=${to(['commands'], { id: q })}>${t('look')}</a> <span class="quiet small">${t('story_search')}</span></p></section>`}</${Asked}></${Page}>`;
}
