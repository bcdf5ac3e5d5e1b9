// What views have set aside: the event, why, what waits behind it, and letting it go on.

import { Failure, Time, ask, go, html, say, to, told, useState, useTitle } from '../assets/page.js';
import { read } from '../assets/api.js';
import { begun, useForbidden, useOps } from './data.js';
import { Action, AggregateLink, Asked, CommandLink, DocumentLink, Facts, Json, Page, PositionLink, Table } from './parts.js';
import { t } from './texts.js';

const query = (filters) => new URLSearchParams(Object.entries(filters).filter(([, value]) => value));

export function Parked({ view, generation }) {
  const [more, add] = useState([]);
  const asked = useOps(`parked?${query({ view, generation, limit: '50' })}`);
  const forbidden = useForbidden(t('no_write'));
  useTitle(t('parked'), t('console'), 'parked');
  const items = [...(asked[0]?.items ?? []), ...more.flatMap((page) => page.items)];
  const next = more.length ? more.at(-1).next : asked[0]?.next;
  const further = async () => { try { add([...more, await read(`ops/parked?${query({ view, generation, limit: '50', cursor: next })}`)]); } catch (problem) { say(told(problem), 'bad'); } };
  const named = view ?? (new Set(items.map((one) => one.view)).size === 1 ? items[0].view : null);
  return html`<${Page} title=${t('parked')}>
    <p class="quiet">${t('parked_lead')}</p>
    <${Asked} asked=${asked}>${() => (items.length === 0 ? html`<p class="empty">${t('parked_none')}</p>` : html`
      ${named && html`<div class="row actions"><${Act} kind="retry" body=${{ view: named, all: true, generation }} forbidden=${forbidden} label=${t('retry_all')} /><${Act} kind="skip" body=${{ view: named, all: true, generation }} forbidden=${forbidden} label=${t('skip_all')} /></div>`}
      <section class="panel"><${Table} label=${t('parked')} heads=${[t('aggregate'), t('view'), t('reason'), t('position'), t('parked_at'), t('replica')]}>
        ${items.map((one) => html`<tr key=${`${one.store} ${one.view} ${one.generation} ${one.aggregate} ${one.id}`}><td><a href=${to(['parked', one.view, one.aggregate, one.id], { generation: one.generation })}>${one.aggregate}/${one.id}</a></td>
          <td>${one.view} <span class="quiet small">${one.generation}</span></td><td>${one.unknown && html`<span class="chip warn">${t('unknown_type')}</span> `}${one.reason}</td>
          <td><${PositionLink} position=${one.position} /></td><td><${Time} at=${one.at} /></td><td>${one.replica}</td></tr>`)}
      </${Table}>${next && html`<button type="button" onClick=${further}>${t('more')}</button>`}</section>`)}</${Asked}></${Page}>`;
}

export function ParkedOne({ view, aggregate, id, generation }) {
  const asked = useOps(`parked?${query({ view, aggregate, id, generation })}`);
  const forbidden = useForbidden(t('no_write'));
  useTitle(`${t('parked')} ${aggregate}/${id}`, t('console'), `${view} ${aggregate}/${id}`);
  return html`<${Page} title=${html`${t('parked')} <code>${aggregate}/${id}</code>`}><p class="quiet">${t('view')} <a href=${to(['views', view])}>${view}</a> · <${AggregateLink} aggregate=${aggregate} id=${id} /></p>
    <${Asked} asked=${asked}>${({ items }) => (items.length === 0 ? html`<p class="empty">${t('parked_none')}</p>` : html`
      <div class="row actions"><${Act} kind="retry" body=${{ view, aggregate, id, generation }} forbidden=${forbidden} label=${t('retry')} /><${Act} kind="skip" body=${{ view, aggregate, id, generation }} forbidden=${forbidden} label=${t('skip_event')} /></div>
      ${items.map((one) => html`<section class="panel" key=${one.store}><h2>${one.replica ?? one.store} <code class="small">${one.generation}</code></h2>
        <p class="note bad">${one.reason}</p>
        <${Facts} facts=${[[t('position'), html`<${PositionLink} position=${one.position} />`], [t('parked_at'), html`<${Time} at=${one.at} />`], one.documents?.length && [t('behind_documents'), one.documents.map((document) => html`<${DocumentLink} key=${document} view=${view} id=${document} /> `)]]} />
        ${(one.events ?? []).map((event, at) => html`<div key=${at}><h3>${at === 0 ? t('first_event') : t('waiting_events')}: <code>${event.type ?? event.events?.[0]?.type ?? ''}</code></h3>${event.command_id && html`<p>${t('command')}: <${CommandLink} id=${event.command_id} at=${{ aggregate, of: id }} /></p>`}<${Json} value=${event.data ?? event} open=${at === 0} /></div>`)}
      </section>`)}`)}</${Asked}></${Page}>`;
}

function Act({ kind, body, forbidden, label }) {
  const [problem, fail] = useState(null);
  const act = () => ask({
    title: label, text: t('ask', kind === 'skip' && body.all ? 'skip-all' : kind, body.view), action: label, danger: kind === 'skip',
    go: async () => {
      try {
        const job = await begun(`parked/${kind}`, Object.fromEntries(Object.entries(body).filter(([, value]) => value)));
        say(t('did', label, body.view));
        go(['jobs', job.id]);
      } catch (caught) {
        fail(caught);
      }
    },
  });
  return html`<${Action} why=${forbidden} go=${act}>${label}</${Action}><${Failure} problem=${problem} />`;
}
