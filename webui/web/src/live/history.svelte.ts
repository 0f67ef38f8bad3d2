// The past of a chart, as the appliance has kept it.

import { api, get, type Schemas } from "../api/client";
import { ALL, type Course, type Key } from "./statistics.svelte";

type History = Schemas["History"];
type Kind = Schemas["HistoryKind"];

/** How far a chart looks back, in seconds. */
export const SPANS = { hour: 3600, day: 86_400, month: 31 * 86_400 };
export type Span = keyof typeof SPANS;

export interface Past {
  course: Course;
  /** Seconds of a step, and why. */
  step: number;
  reason: string;
}

/** The course of what was done in steps. Where nothing is known a line is broken. */
function course(history: History): Course {
  const step = history.step_s;
  const known: (number | undefined)[] = [];
  const seconds: number[] = [];
  history.at_ms.forEach((at, which) => {
    const ends = at / 1000 + step;
    const before = seconds[seconds.length - 1];
    if (before !== undefined && ends - before > step * 1.5) {
      seconds.push(ends - step);
      known.push(undefined);
    }
    seconds.push(ends);
    known.push(which);
  });
  const of = <T>(list: T[], gap: T) => known.map((which) => (which === undefined ? gap : (list[which] ?? gap)));
  const rate = (list: number[]) => of<number | null>(list.map((count) => count / step), null);
  const time = (list: (number | null)[]) => of<number | null>(list, null);
  return {
    seconds,
    reads: rate(history.reads),
    writes: rate(history.writes),
    readBytes: rate(history.read_bytes),
    writeBytes: rate(history.write_bytes),
    readP50: time(history.read_p50_ns),
    readP99: time(history.read_p99_ns),
    writeP50: time(history.write_p50_ns),
    writeP99: time(history.write_p99_ns),
  };
}

/** What a thing did until now. */
export async function past(of: Key, span: Span): Promise<Past> {
  const [kind, ...name] = of === ALL ? ["appliance"] : of.split(" ");
  const to = Date.now();
  const query = { kind: kind as Kind, from_ms: to - SPANS[span] * 1000, ...(of === ALL ? {} : { name: name.join(" ") }) };
  const history = await get(api.GET("/api/v1/history", { params: { query } }));
  return { course: course(history), step: history.step_s, reason: history.reason };
}

/** What came first, and what came after its end. */
export function joined(first: Course | undefined, then: Course | undefined): Course | undefined {
  if (!first || !then) return first ?? then;
  const end = first.seconds[first.seconds.length - 1] ?? 0;
  const from = then.seconds.findIndex((at) => at > end);
  if (from < 0) return first;
  const all = {} as Course;
  for (const line of Object.keys(first) as (keyof Course)[]) all[line] = [...first[line], ...then[line].slice(from)] as number[];
  return all;
}
