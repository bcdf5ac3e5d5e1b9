// A command's story: what became of it, and all that it caused, from events over views to processes and their
// commands.

import { read } from '../assets/api.js';
import { Failure, Time, html, to, useAsked, useState, useTitle } from '../assets/page.js';
import { AggregateLink, Asked, Chip, Json, Page, PositionLink } from './parts.js';
import { t } from './texts.js';

const path = (id, more) => `ops/commands/${encodeURIComponent(id)}?${new URLSearchParams(Object.entries(more).filter(([, value]) => value))}`;

export function Command({ id, aggregate, of }) {
  const [before, further] = useState(null);
  const asked = useAsked((signal) => (id ? read(path(id, { aggregate: of && aggregate, id: aggregate && of, before }), { signal }) : Promise.resolve(undefined)), [id, aggregate, of, before]);
  useTitle(`${t('command')} ${id ?? ''}`, t('console'), `command ${id}`);
  const [value, problem, again] = asked;
  const searched = problem?.rest?.searched ?? (value?.searched?.complete === false && !value.command ? value.searched : null);
  return html`<${Page} title=${html`${t('story')} <code class="small">${id ?? ''}</code>`}>
    ${!(aggregate && of) && html`<p class="quiet">${t('story_search')}</p>`}
    ${searched && !searched.complete && html`<p class="note warn">${t('story_none', searched.from, searched.to)} <button type="button" onClick=${() => further(String(searched.from))}>${t('story_go_on', searched.from)}</button></p>`}
    ${problem && html`<${Failure} problem=${problem} again=${again} />`}
    ${!problem && html`<${Asked} asked=${[value, null, again]}>${(story) => html`
      ${story.origin && html`<p>${t('sent_by')}: <a href=${to(['processes', story.origin.process, story.origin.id])}>${story.origin.process}/${story.origin.id}</a> #${story.origin.step}</p>`}
      ${story.truncated && html`<p class="note warn">${t('truncated')}</p>`}
      ${story.command && html`<ul class="tree"><${Node} node=${story.command} /></ul>`}`}</${Asked}>`}
  </${Page}>`;
}

function Node({ node }) {
  return html`<li><div class="panel node command">
      <p class="row"><span class="chip news">${t('command')}</span><strong><${AggregateLink} aggregate=${node.aggregate} id=${node.id} />${node.command && html` <code>${node.command}</code>`}</strong><${Chip} state=${node.outcome} /></p>
      <p class="small"><a class="mono" href=${to(['commands'], { id: node.command_id, aggregate: node.aggregate, of: node.id })}>${node.command_id}</a>${node.time && html` · <${Time} at=${node.time} />`}${node.caller_id && html` · ${t('caller')} <code>${node.caller_id}</code>`}${node.trace_id && html` · ${t('trace')} <code>${node.trace_id}</code>`}</p>
      ${node.problem && html`<p class="note bad">${node.problem.code && html`<code>${node.problem.code}</code> `}${node.problem.detail ?? JSON.stringify(node.problem)}</p>`}</div>
    <ul>
      ${(node.events ?? []).map((event) => html`<li key=${event.version}><div class="panel node"><p class="row"><span class="chip">${t('event')}</span><code>${event.type}</code> <span class="quiet small">#${event.version} · <${PositionLink} position=${node.position} /></span></p><${Json} value=${event.data} />
        ${node.views?.length > 0 && html`<p class="small">${t('in_views')}: ${node.views.map((view) => html`<a key=${view} href=${to(['views', view])}>${view}</a> `)}</p>`}</div></li>`)}
      ${(node.processes ?? []).map((process) => html`<li key=${`${process.process}/${process.id}`}><div class="panel node"><p class="row"><span class="chip">${t('process')}</span><a href=${to(['processes', process.process, process.id])}>${process.process}/${process.id}</a><${Chip} state=${process.status} /></p></div>
        <ul>${process.steps.map((step) => html`<li key=${step.position}><div class="panel node"><p class="small"><${PositionLink} position=${step.position} /> · <${Time} at=${step.time} />${step.deadlines?.map((deadline) => html` · ${deadline.name} <${Time} at=${deadline.at} />`)}</p></div>
          ${step.commands?.length > 0 && html`<ul>${step.commands.map((sent) => html`<${Node} key=${sent.command_id} node=${sent} />`)}</ul>`}</li>`)}</ul></li>`)}
    </ul></li>`;
}
