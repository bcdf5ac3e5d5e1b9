// The latest commands that were refused: what was wrong, with which, and who asked.

import { Time, html, useTitle } from '../assets/page.js';
import { useOpsMoving, useOverview } from './data.js';
import { AggregateLink, Asked, Missing, Page, Table } from './parts.js';
import { t } from './texts.js';

const MINUTE_MS = 60_000;

export function Refusals() {
  // A refusal is in what the replicas have decided lately.
  const { overview } = useOverview();
  const asked = useOpsMoving('refusals?limit=200', JSON.stringify(overview?.commands ?? null));
  useTitle(t('refusals'), t('console'), 'refusals');
  return html`<${Page} title=${t('refusals')}><p class="quiet">${t('refusals_lead')}</p><${Asked} asked=${asked}>${({ items, missing }) => {
    const silent = html`<${Missing} missing=${missing} />`;
    if (!items.length) return html`${silent}<p class="empty">${t('refusals_none')}</p>`;
    const since = Date.now() - MINUTE_MS;
    const late = items.filter((one) => Date.parse(one.time) >= since);
    const early = items.filter((one) => Date.parse(one.time) < since);
    return html`${silent}<${Group} title=${t('minute')} items=${late} /><${Group} title=${t('earlier')} items=${early} />`;
  }}</${Asked}></${Page}>`;
}

function Group({ title, items }) {
  const codes = new Map();
  for (const { code } of items) codes.set(code, (codes.get(code) ?? 0) + 1);
  return html`<section class="panel"><h2>${title} <span class="quiet small">${items.length}</span></h2>
    ${items.length === 0 ? html`<p class="quiet">${t('none')}</p>` : html`
      <p class="row">${[...codes].map(([code, count]) => html`<span key=${code} class="chip">${code} ${count}</span>`)}</p>
      <${Table} label=${title} heads=${[t('time'), t('command'), t('reason'), t('caller'), t('replica')]}>
        ${items.map((one, at) => html`<tr key=${`${one.time} ${one.command_id} ${at}`}><td><${Time} at=${one.time} style="clock" /></td><td><${AggregateLink} aggregate=${one.aggregate} id=${one.id} /> <code>${one.command}</code></td>
          <td><span class="chip bad">${one.status} ${one.code}</span> ${one.detail}</td><td>${one.caller_id ?? '–'}</td><td>${one.replica}</td></tr>`)}
      </${Table}>`}</section>`;
}
