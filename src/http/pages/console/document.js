// A document, and why it is as it is: each field with the event that last set it, and all events behind it.

import { Time, html, to, useState, useTitle } from '../assets/page.js';
import { number } from '../assets/text.js';
import { differences, useOps } from './data.js';
import { AggregateLink, Asked, Changes, CommandLink, Json, Page, PositionLink, Table, short } from './parts.js';
import { t } from './texts.js';

export function Document({ view, id }) {
  const asked = useOps(`explain/${encodeURIComponent(view)}/${encodeURIComponent(id)}`);
  useTitle(`${view}/${id}`, t('console'), `${view}/${id}`);
  return html`<${Page} title=${html`${t('document')} ${view}/<wbr /><code>${id}</code>`}>
    <${Asked} asked=${asked} waiting=${t('explain_wait')}>${(why) => html`<${Why} why=${why} />`}</${Asked}></${Page}>`;
}

function Why({ why }) {
  const [chosen, choose] = useState(null);
  return html`
    <p class="row"><span class=${`chip ${why.equal ? 'good' : 'bad'}`}>${why.equal ? t('equal') : t('unequal')}</span>${why.parked && html`<a class="chip bad" href=${to(['parked'], { view: why.view })}>${t('parked')}</a>`}
      <span class="quiet small">${t('view')} <a href=${to(['views', why.view])}>${why.view}</a> · ${why.generation} · ${t('position')} ${why.position} · ${why.replica ?? ''} · ${t('explain_cost', number(why.read))}</span></p>
    ${!why.equal && html`<section class="panel"><h2>${t('where_differs')}</h2><p class="quiet small">${t('stored')} → ${t('folded')}. ${t('rebuild_hint')}</p><${Changes} changes=${differences(why.served, why.folded)} none=${t('none')} /></section>`}
    ${!why.served && html`<p class="note warn">${t('doc_gone')}</p>`}
    <section class="panel"><h2>${t('why')}</h2>
      <${Table} label=${t('why')} heads=${[t('field'), t('value'), t('set_by'), t('time'), t('command')]}>
        ${why.fields.map((field) => { const event = why.events[field.event]; return html`<tr key=${field.path} class=${chosen === field.event ? 'chosen' : ''}><td><code>${field.path}</code></td><td>${short(field.value)}</td>
          <td>${event ? html`<a href=${`#event-${field.event}`} onClick=${(click) => { click.preventDefault(); choose(field.event); const at = document.getElementById(`event-${field.event}`); at?.scrollIntoView({ block: 'center' }); at?.focus(); }}>${event.type}</a> <span class="quiet small">${event.aggregate}/${event.id} #${event.version}</span>` : '–'}</td>
          <td><${Time} at=${event?.time} /></td><td><${CommandLink} id=${event?.command_id} at=${{ aggregate: event?.aggregate, of: event?.id }} /></td></tr>`; })}
      </${Table}></section>
    <h2>${t('doc_events')}</h2>
    ${why.events_total > why.events.length && html`<p class="quiet">${t('left_out', why.events_total - why.events.length)}</p>`}
    <ol class="commits">${why.events.map((event, at) => html`<li key=${at} id=${`event-${at}`} tabindex="-1" class=${`panel ${chosen === at ? 'chosen' : ''}`}>
      <h3><code>${event.type}</code> ${event.effect === 'delete' && html`<span class="chip bad">${event.effect}</span>`}</h3>
      <p class="small"><${AggregateLink} aggregate=${event.aggregate} id=${event.id} /> #${event.version} · <${PositionLink} position=${event.position} /> · <${Time} at=${event.time} /> · ${t('command')} <${CommandLink} id=${event.command_id} at=${{ aggregate: event.aggregate, of: event.id }} />${event.caller_id && html` · ${t('caller')} <code>${event.caller_id}</code>`}</p>
      ${event.changed.length > 0 && html`<p class="small">${t('changed')}: ${event.changed.slice(0, 40).map((path) => html`<code key=${path}>${path}</code> `)}</p>`}
      ${event.removed.length > 0 && html`<p class="small">${t('removed')}: ${event.removed.slice(0, 40).map((path) => html`<code key=${path}>${path}</code> `)}</p>`}
      <${Json} value=${event.data} /></li>`)}</ol>
    <section class="panel"><h2>${t('document')}</h2><${Json} value=${why.served} open=${true} label=${t('stored')} /></section>`;
}
