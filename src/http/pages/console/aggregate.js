// An aggregate's history: each commit with its events, who asked for it, and the state after it.

import { read } from '../assets/api.js';
import { Time, html, say, to, told, useState, useTitle } from '../assets/page.js';
import { bytes } from '../assets/text.js';
import { differences, useAggregates, useOps } from './data.js';
import { Asked, Changes, CommandLink, Facts, Json, Page, PositionLink } from './parts.js';
import { t } from './texts.js';

/** The history from its beginning, page after page. */
export function useHistory(aggregate, id) {
  const path = `aggregates/${encodeURIComponent(aggregate)}/${encodeURIComponent(id)}`;
  const asked = useOps(`${path}?limit=50`);
  const [more, add] = useState([]);
  const last = more.at(-1) ?? asked[0];
  const further = async () => { try { add([...more, await read(`ops/${path}?limit=50&after=${last.next}`)]); } catch (problem) { say(told(problem), 'bad'); } };
  const commits = [...(asked[0]?.commits ?? []), ...more.flatMap((page) => page.commits)];
  return { asked, commits, further: last?.next ? further : null };
}

export function Aggregate({ aggregate, id }) {
  const { asked, commits, further } = useHistory(aggregate, id);
  const { processes, following } = useAggregates();
  const isProcess = processes.includes(aggregate);
  const views = following(aggregate);
  useTitle(`${aggregate}/${id}`, t('console'), `${aggregate}/${id}`);
  return html`<${Page} title=${html`${aggregate}/<wbr /><code>${id}</code>`} beside=${isProcess && html`<a class="button" href=${to(['processes', aggregate, id])}>${t('as_process')}</a>`}>
    <${Asked} asked=${asked}>${(history) => html`
      <section class="panel"><${Facts} facts=${[[t('home'), history.home ?? t('home_none')], [t('version'), history.version], [t('position'), html`<${PositionLink} position=${history.position} />`], [t('snapshot'), history.snapshot ? `${t('version')} ${history.snapshot.version} · ${history.snapshot.position}` : t('none_yet')]]} />
        ${views.length > 0 && html`<p class="small">${t('is_document')}: ${views.map((view) => html`<a key=${view} href=${to(['documents', view, id])}>${view}</a> `)}</p>`}
        ${history.state_unknown && html`<p class="note warn">${history.state_unknown}</p>`}</section>
      <h2>${t('history')}</h2>
      <ol class="commits">${commits.map((commit, at) => html`<${Commit} key=${commit.position} commit=${commit} before=${commits[at - 1]?.state ?? null} first=${at === 0} aggregate=${aggregate} id=${id} />`)}</ol>
      ${further && html`<button type="button" onClick=${further}>${t('more')}</button>`}`}</${Asked}></${Page}>`;
}

function Commit({ commit, before, first, aggregate, id }) {
  return html`<li class="panel"><p class="row spread"><span><${PositionLink} position=${commit.position} /> · <${Time} at=${commit.time} /> ${commit.snapshot && html`<span class="chip news">${t('snapshot_here')}</span>`}</span>
      ${commit.trace_id && html`<span class="quiet small">${t('trace')} <code>${commit.trace_id}</code></span>`}</p>
    ${commit.fault && html`<p class="note bad">${t('fault')}: ${commit.fault}</p>`}
    ${commit.excluded && html`<p class="note warn">${t('excluded', commit.excluded.by, commit.excluded.reason)}</p>`}
    ${commit.body && html`<pre tabindex="0">${commit.body}</pre>`}
    ${(commit.events ?? []).map((event, at) => html`<${Event} key=${event.version} event=${event} before=${at ? commit.events[at - 1].state : before} first=${first && at === 0} aggregate=${aggregate} id=${id} />`)}
    ${commit.state === null && commit.state_bytes > 65_536 && html`<p class="quiet small">${t('state_large', bytes(commit.state_bytes))}</p>`}</li>`;
}

function Event({ event, before, first, aggregate, id }) {
  const known = event.state !== null && event.state !== undefined;
  const changes = known ? differences(first ? undefined : before, event.state) : [];
  return html`<div class="event"><h3><span class="chip">${event.version}</span> <code>${event.type}</code></h3>
    <p class="small">${t('command')}: <${CommandLink} id=${event.command_id} at=${{ aggregate, of: id }} />${event.caller_id && html` · ${t('caller')}: <code>${event.caller_id}</code>`}</p>
    <${Json} value=${event.data} />
    ${known && html`<h4>${t('state_after')}</h4><${Changes} changes=${changes} none=${t('no_change')} /><${Json} value=${event.state} label=${t('whole_state')} />`}</div>`;
}
