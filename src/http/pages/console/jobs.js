// Work that takes its time: how far it is, what came of it, and cancelling it.

import { Time, ask, html, say, to, told, useTitle } from '../assets/page.js';
import { cancelled, useForbidden, useOpsWhile } from './data.js';
import { Action, Asked, Chip, DocumentLink, Facts, Json, Missing, Page, Progress, Table } from './parts.js';
import { t } from './texts.js';

const EVERY_MS = 500;
/** How far it is: what is done is done, of nothing too. */
const reached = ({ state, done, total }) => (state === 'done' ? { done: 1, total: 1 } : { done, total });
const kind = (job) => t(job.kind === 'skip' ? 'skip_event' : job.kind.replace('_', '-'));

export function Jobs() {
  const asked = useOpsWhile('jobs', (jobs) => jobs.items.some((job) => job.state === 'running'), EVERY_MS);
  useTitle(t('jobs'), t('console'), 'jobs');
  return html`<${Page} title=${t('jobs')}><${Asked} asked=${asked}>${({ items, missing }) => html`<${Missing} missing=${missing} />${items.length === 0 ? html`<p class="empty">${t('jobs_none')}</p>` : html`
    <section class="panel"><${Table} label=${t('jobs')} heads=${[t('job'), t('view'), t('status'), t('progress'), t('began'), t('by')]}>
      ${items.map((job) => html`<tr key=${job.id}><td><a href=${to(['jobs', job.id])}>${kind(job)}</a></td><td>${job.view}</td><td><${Chip} state=${job.state} /></td>
        <td><${Progress} ...${reached(job)} label=${kind(job)} /></td><td><${Time} at=${job.began} /></td><td>${job.by ?? '–'}</td></tr>`)}
    </${Table}></section>`}`}</${Asked}></${Page}>`;
}

export function Job({ id }) {
  const asked = useOpsWhile(`jobs/${encodeURIComponent(id)}`, (job) => job.state === 'running', EVERY_MS);
  const forbidden = useForbidden(t('no_write'));
  useTitle(`${t('job')} ${id}`, t('console'), id);
  const stop = () => ask({ title: t('cancel'), text: t('cancelled_it'), action: t('cancel'), danger: true, go: async () => {
    try { await cancelled(id); say(t('cancelled_it')); } catch (problem) { say(told(problem), 'bad'); }
  } });
  return html`<${Page} title=${html`${t('job')} <code class="small">${id}</code>`}><${Asked} asked=${asked}>${(job) => html`
    <section class="panel" role="status"><${Facts} facts=${[[t('kind'), kind(job)], [t('view'), html`<a href=${to(['views', job.view])}>${job.view}</a>`], [t('status'), html`<${Chip} state=${job.state} />`],
      [t('progress'), html`<${Progress} ...${reached(job)} label=${t('progress')} />`], [t('began'), html`<${Time} at=${job.began} />`], job.ended && [t('ended'), html`<${Time} at=${job.ended} />`], [t('by'), job.by]]} />
      ${job.error && html`<p class="note bad">${job.error}</p>`}
      ${job.state === 'running' && html`<${Action} why=${forbidden ?? (job.cancellable ? null : t('at_once'))} go=${stop}>${t('cancel')}</${Action}>`}</section>
    ${(job.parts ?? []).map((part) => html`<section class="panel" key=${part.store}><h2><code>${part.replica ?? part.store}</code> <${Chip} state=${part.state} /></h2>
      <p><${Progress} ...${reached(part)} label=${part.replica || t('progress')} /> ${part.generation && html`<code>${part.generation}</code>`}</p>
      ${part.error && html`<p class="note bad">${part.error}</p>`}
      <${Result} result=${part.result} view=${job.view} /></section>`)}`}</${Asked}></${Page}>`;
}

function Result({ result, view }) {
  if (!result) return null;
  if (result.checked !== undefined) {
    const { counts } = result;
    return html`<p class=${`note ${result.different ? 'bad' : 'good'}`}>${t('checked', result.checked, result.different)}</p>
      ${result.parked > 0 && html`<p class="note warn">${t('checked_parked', result.parked)}</p>`}
      ${counts?.checked > 0 && html`<p class=${`note ${counts.different ? 'bad' : 'good'}`}>${t('counted', counts.checked, counts.different)}</p>`}
      ${counts?.differences?.length > 0 && html`<${Table} label=${t('counts')} heads=${[t('field'), t('value'), t('stored'), t('documents')]}>
        ${counts.differences.map((one) => html`<tr key=${`${one.fields} ${JSON.stringify(one.values)}`}><td><code>${one.fields}</code></td><td><code>${JSON.stringify(one.values)}</code></td><td>${one.stored}</td><td>${one.documents}</td></tr>`)}</${Table}>`}
      ${(result.differences ?? []).map((one) => html`<div key=${one.id}><p><${DocumentLink} view=${view} id=${one.id} /></p><${Json} value=${one.stored} label=${t('stored')} /><${Json} value=${one.folded} label=${t('folded')} /></div>`)}`;
  }
  if (result.applied !== undefined) return html`<p class="note ${result.still_parked ? 'warn' : 'good'}">${t('applied', result.applied, result.still_parked)}</p><${Json} value=${result.left} />`;
  return html`<${Json} value=${result} label=${t('result')} open=${true} />`;
}
