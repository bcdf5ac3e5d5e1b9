// The whole system on one page: what needs somebody, how much goes through, and who does it.

import { Failure, Time, html, to, useTitle } from '../assets/page.js';
import { bytes, lasting, number, when } from '../assets/text.js';
import { useOverview } from './data.js';
import { Facts, Lag, Page, Progress, Table } from './parts.js';
import { Plot } from './plot.js';
import { t } from './texts.js';

const LATE_MS = 1000;

export function Overview() {
  const { overview, history, gone, state, problem } = useOverview();
  useTitle(t('overview'), t('console'), 'overview');
  const ready = overview?.readiness?.ready;
  return html`<${Page} title=${t('overview')} beside=${overview && html`<span class="row"><span class=${`chip ${ready ? 'good' : 'bad'}`}>${ready ? t('ready') : t('not_ready')}</span><span class=${`chip ${state === 'live' ? 'good' : 'warn'}`}>${state === 'live' ? t('live') : t('waiting')}</span></span>`}>
    <${Failure} problem=${problem} />
    ${!overview && !problem && html`<p class="empty" role="status">${t('loading')}</p>`}
    ${overview && html`
      <${Attention} overview=${overview} gone=${gone} />
      <${Lines} history=${history} />
      <${Views} views=${overview.views} />
      <${Replicas} replicas=${overview.replicas} />
      <${Log} log=${overview.log} />`}
  </${Page}>`;
}

/** What an operator should look at, worst first; each leads to its page. */
function Attention({ overview, gone }) {
  const found = [];
  const add = (kind, text, link) => found.push({ kind, text, link });
  if (overview.log?.trouble) add('bad', t('trouble', overview.log.trouble));
  for (const check of overview.readiness?.checks ?? []) if (!check.ready) add('bad', t('check', check.name, check.detail));
  for (const view of overview.views) {
    const link = to(['views', view.view]);
    if (view.stalled) add('bad', t('stalled', view.view, view.stalled), link);
    if (view.parked) add('warn', t('has_parked', view.view, view.parked), to(['parked'], { view: view.view }));
    if (view.building?.waiting) add('warn', t('waits', view.view, view.building.waiting), link);
    else if (view.building) add('news', t('building', view.view, number(100 * view.building.done / Math.max(1, view.building.total))), link);
    if (!view.stalled && view.lag_ms > LATE_MS) add('warn', t('behind', view.view, lasting(view.lag_ms)), link);
  }
  for (const replica of overview.replicas) if (replica.leaving) add('news', t('leaving', replica.replica), to(['replicas']));
  for (const [replica, at] of gone) add('bad', t('died', replica, when(at, 'clock')), to(['replicas']));
  const order = ['bad', 'warn', 'news'];
  found.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  return html`<section class="panel" aria-live="polite"><h2>${t('attention')}</h2>
    ${found.length === 0 ? html`<p class="note good">${t('all_well')}</p>`
      : html`<ul class="attention">${found.map((one) => html`<li key=${one.text} class=${`note ${one.kind}`}>${one.link ? html`<a href=${one.link}>${one.text}</a>` : one.text}</li>`)}</ul>`}</section>`;
}

function Lines({ history }) {
  const times = history.map(({ time }) => Date.parse(time) / 1000);
  const of = (pick) => history.map((one) => pick(one) ?? null);
  const views = history.at(-1).views.map(({ view }) => view);
  return html`<div class="plots">
    <${Plot} title=${t('throughput')} times=${times} lines=${[
      { name: t('accepted'), values: of(({ commands }) => commands?.accepted_per_s) },
      { name: t('refused'), values: of(({ commands }) => commands?.refused_per_s) },
      { name: t('failed'), values: of(({ commands }) => commands?.failed_per_s) }]} />
    <${Plot} title=${t('latency')} times=${times} lines=${[
      { name: t('p50'), values: of(({ commands }) => commands?.p50_ms) },
      { name: t('p99'), values: of(({ commands }) => commands?.p99_ms) }]} />
    <${Plot} title=${t('lag_plot')} times=${times} lines=${views.map((view) => ({ name: view, values: of((one) => one.views.find((other) => other.view === view)?.lag_ms) }))} />
    <${Plot} title=${t('commits')} times=${times} lines=${[{ name: t('commits'), values: of(({ log }) => log?.commits_per_s) }]} />
  </div>`;
}

export function Views({ views }) {
  return html`<section class="panel"><h2>${t('views')}</h2>
    <${Table} label=${t('views')} heads=${[t('view'), t('lag'), t('rate'), t('position'), t('parked'), t('keepers')]}>
      ${views.map((view) => html`<tr key=${view.view}><td><a href=${to(['views', view.view])}>${view.view}</a> <span class="quiet small">v${view.version}</span></td>
        <td>${view.stalled ? html`<span class="chip bad" title=${view.stalled}>${view.stalled_since ? lasting(Date.now() - Date.parse(view.stalled_since)) : t('stalled', view.view, view.stalled)}</span>` : html`<${Lag} ms=${view.lag_ms ?? 0} commits=${view.lag_commits} />`}</td>
        <td>${t('per_s', number(view.rate_per_s ?? 0, 1))}</td><td class="mono">${view.position}</td>
        <td>${view.parked ? html`<a href=${to(['parked'], { view: view.view })}>${view.parked}</a>` : 0}</td>
        <td>${(view.keepers ?? []).join(', ') || '–'}${view.building && html` <${Progress} done=${view.building.done} total=${view.building.total} label=${t('building', view.view, '')} />`}</td></tr>`)}
    </${Table}></section>`;
}

export function Replicas({ replicas }) {
  return html`<section class="panel"><h2>${t('replicas')}</h2>
    <${Table} label=${t('replicas')} heads=${[t('replica'), t('roles'), t('version'), t('since'), t('load')]}>
      ${replicas.map((one) => html`<tr key=${one.replica}><td><code>${one.replica}</code> ${one.here && html`<span class="chip">${t('here')}</span>`} ${one.leaving && html`<span class="chip warn">${t('leaving', one.replica)}</span>`}</td>
        <td>${one.roles.join(', ')}</td><td>${one.version ?? t('unknown')}</td><td><${Time} at=${one.since} /></td>
        <td>${one.load ? `${t('per_s', number(one.load.accepted_per_s, 1))} · ${number(one.load.p99_ms ?? 0, 1)} ms` : '–'}</td></tr>`)}
    </${Table}></section>`;
}

function Log({ log }) {
  return html`<section class="panel"><h2>${t('log')}</h2><${Facts} facts=${[
    [t('last'), html`<a class="mono" href=${to(['log'])}>${log.last}</a>`],
    [t('messages'), number(log.messages)], [t('size'), bytes(log.bytes)], [t('last_at'), html`<${Time} at=${log.last_at} />`],
    [t('durability'), html`${log.durability} <span class="quiet small">${log.promise}</span>`],
    log.append && [t('append'), html`${log.append.mode} <span class="quiet small">${log.append.reason}</span>`],
    [t('log_replicas'), log.replicas], [t('log_name'), html`<code>${log.name}</code>`], [t('created'), html`<${Time} at=${log.created} />`]]} /></section>`;
}
