// Process instances: what each waits for and until when, and step by step how it came there.

import { read } from '../assets/api.js';
import { Time, ask, html, say, to, told, useAsked, useState, useTitle } from '../assets/page.js';
import { useHistory } from './aggregate.js';
import { changed, differences, useForbidden, useOverview } from './data.js';
import { Action, AggregateLink, Asked, Changes, Chip, CommandLink, Facts, Json, Page, Table } from './parts.js';
import { t } from './texts.js';

const STATUSES = ['waiting', 'running', 'parked', 'suspended', 'ended'];

export function Processes({ status = 'waiting' }) {
  const { overview } = useOverview();
  useTitle(t('processes'), t('console'), 'processes');
  return html`<${Page} title=${t('processes')}>
    <nav class="row tabs" aria-label=${t('status')}>${STATUSES.map((one) => html`<a key=${one} class="button" href=${to(['processes'], { status: one })} ...${one === status ? { 'aria-current': 'page' } : {}}>${t('state', one)}</a>`)}</nav>
    ${!overview && html`<p class="empty" role="status">${t('loading')}</p>`}
    ${overview?.processes?.length === 0 && html`<p class="empty">${t('none')}</p>`}
    ${(overview?.processes ?? []).map(({ process, home }) => html`<${Instances} key=${`${process} ${status}`} process=${process} home=${home} status=${status} />`)}</${Page}>`;
}

function Instances({ process, home, status }) {
  const path = `ops/processes/${encodeURIComponent(process)}?status=${encodeURIComponent(status)}&limit=50`;
  const asked = useAsked((signal) => read(path, { signal }), [path]);
  const [more, add] = useState([]);
  const last = more.at(-1) ?? asked[0];
  const further = async () => { try { add([...more, await read(`${path}&cursor=${encodeURIComponent(last.next)}`)]); } catch (problem) { say(told(problem), 'bad'); } };
  return html`<section class="panel"><h2>${process} <span class="quiet small">${t('home')}: ${home ?? '–'}</span></h2><${Asked} asked=${asked}>${({ items, unplaced = [] }) => {
    const held = unplaced.map((one) => html`<${Unplaced} key=${`${one.aggregate} ${one.id}`} process=${process} one=${one} again=${asked[2]} />`);
    const rows = [...items, ...more.flatMap((page) => page.items)];
    if (!rows.length) return held.length ? held : html`<p class="quiet">${t('none')}</p>`;
    return html`${held}<${Table} label=${process} heads=${[t('instance'), t('status'), t('waits_for'), t('last_at')]}>${rows.map((one) => html`<tr key=${one.id}><td><a href=${to(['processes', process, one.id])}>${one.id}</a></td><td><${Chip} state=${one.status} />${one.reason && html` <span class="small">${one.reason}</span>`}</td><td><${Waiting} instance=${one} /></td><td><${Time} at=${one.last} /></td></tr>`)}</${Table}>
      ${last?.next && html`<button type="button" onClick=${further}>${t('more')}</button>`}`;
  }}</${Asked}></section>`;
}

/** The events of an aggregate that the process cannot place, and what can be done with them. */
function Unplaced({ process, one, again }) {
  return html`<div class="note bad"><p>${t('unplaced', one.from)} <${AggregateLink} aggregate=${one.aggregate} id=${one.id} />: ${one.reason}</p>
    <p class="row actions"><${Change} process=${process} id=${one.id} verb="retry" body=${{ unplaced: one.aggregate }} again=${again} /><${Change} process=${process} id=${one.id} verb="skip" body=${{ unplaced: one.aggregate }} again=${again} /></p></div>`;
}

const WITH_REASON = ['skip', 'suspend', 'end'];

/** A button that changes an instance, after asking once. */
function Change({ process, id, verb, why, body = {}, again }) {
  const forbidden = useForbidden(t('no_write'));
  const label = t('change', verb);
  const act = () => ask({
    title: `${label}: ${process}/${id}`, text: t('ask_change', verb), action: label, danger: verb === 'skip' || verb === 'end', reason: WITH_REASON.includes(verb) && t('reason'),
    go: async (reason) => {
      try {
        await changed(process, id, verb, reason ? { ...body, reason } : body);
        say(t('did_change', label, `${process}/${id}`));
        again();
      } catch (problem) {
        say(told(problem), 'bad');
      }
    },
  });
  return html`<${Action} why=${forbidden ?? why} go=${act}>${label}</${Action}>`;
}

function InstanceActions({ process, id, state, again }) {
  const status = statusOf(state);
  const over = status === 'ended' ? t('has_ended') : null;
  const change = (verb, why) => html`<${Change} process=${process} id=${id} verb=${verb} why=${over ?? why} again=${again} />`;
  return html`<div class="row actions" role="group" aria-label=${t('actions')}>
    ${change('retry', status === 'parked' ? null : t('not_parked'))}
    ${change('resume', status === 'parked' || status === 'suspended' ? null : t('goes_on'))}
    ${change('skip', state.held?.length ? null : t('nothing_held'))}
    ${change('suspend', status === 'suspended' ? t('is_suspended') : null)}
    ${change('end', null)}</div>`;
}

/** What an instance waits for, in a few words: the answers first, then what comes with time. */
function Waiting({ instance }) {
  return html`${(instance.open ?? []).slice(0, 3).map((sent, at) => html`<div key=${at}>${t('waits_answer', `${sent.aggregate}/${sent.id} ${sent.command}`)}</div>`)}
    ${(instance.deadlines ?? []).map((deadline) => html`<div key=${deadline.name}>${t('waits_until', deadline.name)} <${Time} at=${deadline.at} /></div>`)}
    ${instance.held?.length > 0 && html`<div>${t('held', instance.held.length)}</div>`}`;
}

/** How an instance is: what has nothing under way waits for an event or a deadline. */
function statusOf(state) {
  const status = typeof state.status === 'string' ? state.status : Object.keys(state.status ?? { running: 1 })[0];
  return status === 'running' && !state.open?.length ? 'waiting' : status;
}

export function Process({ process, id }) {
  const { asked, commits, further } = useHistory(process, id);
  useTitle(`${process}/${id}`, t('console'), `${process}/${id}`);
  const state = commits.at(-1)?.state;
  return html`<${Page} title=${html`${process}/<wbr /><code>${id}</code>`} beside=${state && html`<span class="row"><a class="button" href=${to(['aggregates', process, id])}>${t('history')}</a><${Chip} state=${statusOf(state)} /></span>`}>
    <${Asked} asked=${asked}>${() => html`
      ${state && !further && html`<${InstanceActions} process=${process} id=${id} state=${state} again=${asked[2]} /><${Waits} state=${state} />`}
      <h2>${t('timeline')}</h2>
      <ol class="commits">${commits.map((commit, at) => html`<${Step} key=${commit.position} process=${process} id=${id} commit=${commit} before=${commits[at - 1]?.state} />`)}</ol>
      ${further && html`<button type="button" onClick=${further}>${t('more')}</button>`}`}</${Asked}></${Page}>`;
}

function Waits({ state }) {
  const deadlines = Object.values(state.deadlines ?? {});
  const open = state.open ?? [];
  const ended = statusOf(state) === 'ended';
  const reason = state.status?.parked?.reason;
  return html`<section class="panel"><h2>${t('waits_for')}</h2>
    ${reason && html`<p class="note bad">${reason}</p>`}
    ${state.held?.length > 0 && html`<p class="note warn">${t('held', state.held.length)}</p>`}
    <ul>${open.map((sent, at) => html`<li key=${at}>${t('waits_answer', `${sent.aggregate}/${sent.id} ${sent.command}`)}</li>`)}
      ${deadlines.map((deadline) => html`<li key=${deadline.name}>${t('waits_until', deadline.name, '')} <strong><${Time} at=${deadline.at} /></strong></li>`)}</ul>
    ${!open.length && !deadlines.length && !reason && html`<p>${ended ? html`<${Chip} state="ended" />` : t('waits_nothing')}</p>`}</section>`;
}

/** What came in, in a few words. */
function Input({ input }) {
  const [kind, what] = Object.entries(input ?? {})[0] ?? [];
  if (kind === 'event') return html`<code>${what.type}</code> <${AggregateLink} aggregate=${what.aggregate} id=${what.id} /> #${what.version}`;
  if (kind === 'due') return t('in_deadline', what.name);
  if (kind === 'accepted' || kind === 'refused') return html`<${Chip} state=${kind} /> ${t('in_answer', what.step, what.number + 1)}${what.code && html` <code>${what.code}</code>`}${what.detail && ` ${what.detail}`}`;
  return html`<code class="small">${JSON.stringify(input ?? null)}</code>`;
}

function Step({ process, id, commit, before }) {
  const stepped = (commit.events ?? []).filter((event) => event.type.includes('.stepped.'));
  const facts = (commit.events ?? []).filter((event) => !event.type.includes('.stepped.'));
  const changes = commit.state && before ? differences(before.process, commit.state.process) : [];
  return html`<li class="panel"><p class="row spread"><span><code>${commit.position}</code> · <${Time} at=${commit.time} /></span></p>
    ${commit.fault && html`<p class="note bad">${commit.fault}</p>`}
    ${stepped.map((event) => html`<${Facts} key=${event.version} facts=${[
      [t('input'), html`<${Input} input=${event.data?.input} />`],
      event.data?.send?.length && [t('sent'), html`<ul class="plain-list">${event.data.send.map((sent, at) => html`<li key=${at}><${AggregateLink} aggregate=${sent.aggregate} id=${sent.id} /> <code>${sent.command}</code> <${CommandLink} id=${`${process}/${id}/${event.data.step}/${at}`} at=${{ aggregate: sent.aggregate, of: sent.id }} /></li>`)}</ul>`],
      (event.data?.set?.length || event.data?.cancel?.length) && [t('deadlines'), html`<ul class="plain-list">${(event.data.set ?? []).map((deadline, at) => html`<li key=${`s${at}`}>${deadline.name} <${Time} at=${deadline.at} /> ${t('set')}</li>`)}${(event.data.cancel ?? []).map((deadline, at) => html`<li key=${`c${at}`}>${deadline.name} ${t('called_off')}</li>`)}</ul>`]]} />`)}
    ${facts.length > 0 && html`<p class="small">${t('facts')}:</p><ul class="plain-list">${facts.map((event) => html`<li key=${event.version}><code>${event.type}</code> <${Json} value=${event.data} /></li>`)}</ul>`}
    ${changes.length > 0 && html`<h3>${t('state_after')}</h3><${Changes} changes=${changes} none=${t('no_change')} />`}
    ${commit.state && html`<${Json} value=${commit.state} label=${t('whole_state')} />`}</li>`;
}
