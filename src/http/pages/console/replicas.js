// The replicas, and the home of an id: the replica that decides its commands.

import { Failure, Time, go, html, useEffect, useRef, useTitle } from '../assets/page.js';
import { when } from '../assets/text.js';
import { useAggregates, useOps, useOverview } from './data.js';
import { AggregateLink, Facts, Page } from './parts.js';
import { Replicas as ReplicasTable } from './overview.js';
import { t } from './texts.js';

export function Replicas({ aggregate, id }) {
  const { overview, gone } = useOverview();
  const { aggregates, processes } = useAggregates();
  const form = useRef();
  useTitle(t('replicas'), t('console'), 'replicas');
  useEffect(() => { if (form.current && aggregate) form.current.elements.aggregate.value = aggregate; }, [aggregates.length, aggregate]);
  const find = (event) => {
    event.preventDefault();
    const given = event.target.elements;
    go(['replicas'], { aggregate: given.aggregate.value, id: given.id.value.trim() });
  };
  const [home, problem] = useOps(aggregate && id ? `homes/${encodeURIComponent(aggregate)}/${encodeURIComponent(id)}` : null);
  return html`<${Page} title=${t('replicas')}>
    <section class="panel"><h2>${t('homes')}</h2>
      <form class="filters" onSubmit=${find} ref=${form}>
        <label>${t('aggregate')}<select name="aggregate">${[...aggregates, ...processes].map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
        <label>${t('id')}<input name="id" required maxlength="64" spellcheck=${false} autocomplete="off" defaultValue=${id ?? ''} /></label><button class="main">${t('find')}</button></form>
      <${Failure} problem=${problem} />
      ${home && html`<p class=${`note ${home.home ? 'good' : 'bad'}`} role="status">${home.home ? t('home_is', `${home.aggregate}/${home.id}`, home.home) : t('home_none')}</p>
        <${Facts} facts=${[[t('aggregate'), html`<${AggregateLink} aggregate=${home.aggregate} id=${home.id} />`], [t('version'), home.version], [t('position'), home.position], [t('last_at'), html`<${Time} at=${home.last_at} />`]]} />`}</section>
    ${[...gone].map(([replica, at]) => html`<p key=${replica} class="note bad" role="alert">${t('died', replica, when(at, 'clock'))}</p>`)}
    ${overview ? html`<${ReplicasTable} replicas=${overview.replicas} />` : html`<p class="empty" role="status">${t('loading')}</p>`}
  </${Page}>`;
}
