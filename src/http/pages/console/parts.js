// The parts that several pages of the console are made of.

import { Failure, Time, html, to, useState } from '../assets/page.js';
import { lasting, number } from '../assets/text.js';
import { t } from './texts.js';

const KINDS = { live: 'good', done: 'good', accepted: 'good', building: 'news', running: 'news', waiting: 'news', previous: '', pending: 'warn', dropping: 'warn', cancelled: 'warn', suspended: 'warn', failed: 'bad', refused: 'bad', parked: 'bad', ended: '' };

export const Chip = ({ state, kind }) => html`<span class=${`chip ${kind ?? KINDS[state] ?? ''}`}>${t('state', state)}</span>`;

export const Page = ({ title, children, beside }) => html`<main id="main" tabindex="-1" class="page"><div class="row spread top"><h1>${title}</h1>${beside}</div>${children}</main>`;

/** What is there of something that was asked for. */
export function Asked({ asked: [value, problem, again], children, waiting }) {
  return html`<${Failure} problem=${problem} again=${again} />
    ${!value && !problem && html`<p class="empty" role="status">${waiting ?? t('loading')}</p>`}
    ${value && children(value)}`;
}

/**
 * A button that is greyed, with its reason, where it may not be pressed. It stays reachable, so that the reason is heard, and the
 * same element, so that it keeps the focus when what may be done changes.
 */
export function Action({ why, go, children, kind = '' }) {
  const [told, tell] = useState(false);
  const press = why ? () => tell(!told) : go;
  return html`<span class="barred"><button type="button" class=${kind} aria-disabled=${why ? 'true' : undefined} title=${why ?? undefined} onClick=${press}>${children}${why && html`<span class="hidden">: ${why}</span>`}</button>
    ${why && told && html`<span class="small quiet" role="status">${why}</span>`}</span>`;
}

/** JSON as it is read by people: short values in one line, all else folded away, and written out where it is asked for. */
export function Json({ value, label, open = false }) {
  const [shown, show] = useState(open);
  if (value === undefined) return html`<span class="quiet">–</span>`;
  const text = JSON.stringify(value);
  if (text.length <= 60) return html`<code>${text}</code>`;
  return html`<details open=${open} onToggle=${(event) => show(event.currentTarget.open)}><summary>${label ?? t('data')} <span class="quiet small">${number(text.length)}</span></summary>${shown && html`<pre tabindex="0">${JSON.stringify(value, null, 2)}</pre>`}</details>`;
}

/** How far something is. */
export function Progress({ done, total, label }) {
  const share = total ? Math.min(1, done / total) : 0;
  return html`<span class="row nowrap"><progress max="1" value=${share} aria-label=${label}></progress><span class="number small">${number(share * 100)} %</span></span>`;
}

export const AggregateLink = ({ aggregate, id }) => html`<a href=${to(['aggregates', aggregate, id])}>${aggregate}/${id}</a>`;
export const DocumentLink = ({ view, id }) => html`<a href=${to(['documents', view, id])}>${view}/${id}</a>`;
export const CommandLink = ({ id, at }) => (id ? html`<a class="mono" href=${to(['commands'], { id, ...at })}>${id}</a>` : '–');
export const PositionLink = ({ position }) => html`<a class="mono" href=${to(['log'], { before: position + 1 })}>${position}</a>`;
export const Lag = ({ ms, commits }) => {
  const kind = ms > 10_000 ? 'bad' : ms > 1000 ? 'warn' : 'good';
  return html`<span class=${`chip ${kind}`}>${lasting(ms)}</span>${commits > 0 && html` <span class="quiet small">${number(commits)}</span>`}`;
};

/** A table that is as wide as it must be, in a window that is not. */
export function Table({ label, heads, children }) {
  return html`<div class="wide" role="region" tabindex="0" aria-label=${label}><table><thead><tr>${heads.map((head) => (head
    ? html`<th key=${head} scope="col">${head}</th>` : html`<td></td>`))}</tr></thead><tbody>${children}</tbody></table></div>`;
}

/** The replicas that have not answered. */
export const Missing = ({ missing = [] }) => missing.map((replica) => html`<p key=${replica} class="note warn">${t('missing', replica)}</p>`);

/** Pairs of a name and what it is. */
export const Facts = ({ facts }) => html`<dl class="facts">${facts.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value ?? '–'}</dd></div>`)}</dl>`;

/** Where two values differ, leaf by leaf. */
export function Changes({ changes, none }) {
  if (!changes.length) return html`<p class="quiet small">${none}</p>`;
  return html`<ul class="changes">${changes.map(([path, before, after]) => html`<li key=${path}><code>${path}</code> ${before !== undefined && html`<del>${short(before)}</del>`} ${after !== undefined ? html`<ins>${short(after)}</ins>` : html`<span class="quiet">∅</span>`}</li>`)}</ul>`;
}

export const short = (value) => {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
};

export { Time };
