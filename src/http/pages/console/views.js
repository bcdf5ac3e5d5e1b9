// Views and their generations, and what an operator does with them: as jobs.

import { Time, ask, go, html, say, to, told, useTitle } from '../assets/page.js';
import { lasting, number } from '../assets/text.js';
import { begun, useForbidden, useOpsMoving, useOverview } from './data.js';
import { Action, Asked, Chip, Lag, Missing, Page, Table } from './parts.js';
import { Views as ViewsTable } from './overview.js';
import { t } from './texts.js';

export function Views() {
  const { overview } = useOverview();
  useTitle(t('views'), t('console'), 'views');
  return html`<${Page} title=${t('views')}>${overview ? html`<${ViewsTable} views=${overview.views} />` : html`<p class="empty" role="status">${t('loading')}</p>`}</${Page}>`;
}

export function View({ name }) {
  const { overview } = useOverview();
  const asked = useOpsMoving(`views/${encodeURIComponent(name)}`, JSON.stringify(overview?.views.find(({ view }) => view === name) ?? null));
  useTitle(`${t('view')} ${name}`, t('console'), `view ${name}`);
  return html`<${Page} title=${html`${t('view')} <code>${name}</code>`}><${Asked} asked=${asked}>${(view) => html`<${Shown} view=${view} />`}</${Asked}></${Page}>`;
}

function Shown({ view }) {
  const generations = view.stores.flatMap((store) => store.generations ?? []);
  return html`<p class="quiet">${t('follows')}: ${view.aggregates.join(', ')} · ${t('version')} ${view.version}</p>
    <${Missing} missing=${view.missing} />
    <${Actions} name=${view.view} generations=${generations} />
    ${view.stores.map((store) => html`<section class="panel" key=${store.store}><h2>${t('store')} <code>${store.replica ?? store.store}</code> ${store.here && html`<span class="chip">${t('here')}</span>`}</h2>
      ${store.error && html`<p class="note bad">${store.error}</p>`}
      <${Table} label=${`${t('store')} ${store.replica ?? ''}`} heads=${[t('generation'), t('status'), t('lag'), t('rate'), t('position'), t('parked'), t('drift')]}>
        ${(store.generations ?? []).map((one) => html`<tr key=${one.generation}><td><code>${one.generation}</code></td><td><${Chip} state=${one.state} /></td>
          <td><${Lag} ms=${one.lag_ms ?? 0} commits=${one.lag_commits} /></td><td>${t('per_s', number(one.rate_per_s ?? 0, 1))}</td><td class="mono">${one.position}</td>
          <td>${one.parked ? html`<a href=${to(['parked'], { view: view.view, generation: one.generation })}>${one.parked}</a>` : 0}</td><td><${Drift} drift=${one.drift} view=${view.view} /></td></tr>
          ${(one.stalled || one.waiting) && html`<tr><td colspan="7"><p class="note bad">${one.stalled ? html`${t('stalled', view.view, one.stalled)} (<${Time} at=${one.stalled_since} />${one.stalled_since && `, ${lasting(Date.now() - Date.parse(one.stalled_since))}`})` : t('waits', view.view, one.waiting)}</p></td></tr>`}`)}
      </${Table}></section>`)}`;
}

function Drift({ drift, view }) {
  if (!drift) return '–';
  if (!drift.different) return html`<span class="small">${t('drift_well', number(drift.checked))}</span>`;
  return html`<span class="chip bad">${t('drift_bad', drift.different, drift.checked)}</span> ${(drift.ids ?? []).slice(0, 3).map((id) => html`<a key=${id} href=${to(['documents', view, id])}>${id}</a> `)}`;
}

function Actions({ name, generations }) {
  const forbidden = useForbidden(t('no_write'));
  const has = (state) => generations.some((one) => one.state === state);
  const act = (kind, body = {}) => ask({
    title: `${t(kind)}: ${name}`, text: t('ask', kind, name), action: t(kind), danger: kind === 'drop',
    go: async () => {
      try {
        const job = await begun(`views/${encodeURIComponent(name)}/${kind}`, body);
        say(t('did', t(kind), name));
        go(['jobs', job.id]);
      } catch (problem) {
        say(told(problem), 'bad');
      }
    },
  });
  const waits = generations.some((one) => one.waiting);
  return html`<div class="row actions" role="group" aria-label=${t('actions')}>
    <${Action} why=${forbidden} go=${() => act('verify')}>${t('verify')}</${Action}>
    <${Action} why=${forbidden ?? (has('building') ? t('is_building') : null)} go=${() => act('rebuild')}>${t('rebuild')}</${Action}>
    <${Action} why=${forbidden ?? (waits ? null : t('none_waits'))} go=${() => act('take-over', { accept_parked: true })}>${t('take-over')}</${Action}>
    <${Action} why=${forbidden ?? (has('previous') ? null : t('no_previous'))} go=${() => act('rollback')}>${t('rollback')}</${Action}>
    <${Action} why=${forbidden ?? (has('previous') || has('building') ? null : t('no_other'))} go=${() => act('drop')}>${t('drop')}</${Action}>
    <a class="button" href=${to(['jobs'])}>${t('jobs')}</a></div>`;
}
