// Lines over time, drawn by uPlot in the page's colours.

import uPlot from '../assets/vendor/uplot.js';
import { html, useEffect, useRef, useState } from '../assets/page.js';
import { language, number } from '../assets/text.js';
import { t } from './texts.js';

const HEIGHT = 190;
const COLOURS = ['--line-1', '--line-2', '--line-3', '--line-4', '--line-5', '--line-6'];
const dark = matchMedia('(prefers-color-scheme: dark)');

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(lines, width) {
  const axis = { stroke: colour('--quiet'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line'), width: 1 }, font: '12px system-ui, sans-serif' };
  const clock = new Intl.DateTimeFormat(language(), { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
  return {
    width, height: HEIGHT, legend: { show: false }, cursor: { y: false },
    scales: { y: { range: (_, low, high) => [Math.min(0, low), Math.max(1, high * 1.15)] } },
    axes: [
      { ...axis, space: 90, values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)) },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => number(tick, 2)) },
    ],
    series: [{}, ...lines.map((line, at) => ({ label: line.name, stroke: colour(COLOURS[at % COLOURS.length]), width: 2, spanGaps: false, points: { show: false } }))],
  };
}

/** `lines` are `{ name, values }`, over `times` in seconds. */
export function Plot({ title, times, lines }) {
  const element = useRef();
  const plot = useRef(null);
  const [scheme, turned] = useState(dark.matches);
  const names = lines.map((line) => line.name).join();
  useEffect(() => {
    const turn = () => turned(dark.matches);
    dark.addEventListener('change', turn);
    return () => dark.removeEventListener('change', turn);
  }, []);
  useEffect(() => {
    const box = element.current;
    plot.current = new uPlot(options(lines, box.clientWidth || 300), [times, ...lines.map((line) => line.values)], box);
    const watch = new ResizeObserver(() => { if (box.clientWidth) plot.current?.setSize({ width: box.clientWidth, height: HEIGHT }); });
    watch.observe(box);
    return () => { watch.disconnect(); plot.current?.destroy(); plot.current = null; };
  }, [names, scheme, language()]);
  useEffect(() => { plot.current?.setData([times, ...lines.map((line) => line.values)]); }, [times]);
  const last = lines.map((line) => `${line.name} ${number(line.values.at(-1) ?? 0, 1)}`).join(', ');
  return html`<section class="panel plot"><h2>${title}</h2>
    <div class="lines-of" ref=${element} role="img" aria-label=${`${title}: ${last}`}></div>
    ${times.length < 2 && html`<p class="quiet small">${t('plot_wait')}</p>`}
    <ul class="legend">${lines.map((line, at) => html`<li key=${line.name}><svg width="14" height="4" aria-hidden="true"><rect class=${`line-${at % COLOURS.length + 1}`} width="14" height="4" rx="2" /></svg>${line.name} <b>${number(line.values.at(-1) ?? 0, 1)}</b></li>`)}</ul>
  </section>`;
}
