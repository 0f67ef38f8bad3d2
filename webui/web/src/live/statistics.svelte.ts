// Rates from the counters of the appliance: asked for while somebody looks, kept while the page is open.

import { api, get, type Schemas } from "../api/client";

type Statistics = Schemas["Statistics"];
type Io = Schemas["IoStatistics"];
type Histogram = Schemas["LatencyHistogram"];

/** What something does, between two looks. */
export interface Rates {
  reads: number;
  writes: number;
  readBytes: number;
  writeBytes: number;
  errors: number;
  throttled: number;
  queueDepth: number;
  /** Nanoseconds; nothing where no command ended. */
  p50?: number;
  p99?: number;
  readP50?: number;
  readP99?: number;
  writeP50?: number;
  writeP99?: number;
}

/** Rates over time, oldest first: one list for each line of a chart. */
export interface Course {
  seconds: number[];
  reads: (number | null)[];
  writes: (number | null)[];
  readBytes: (number | null)[];
  writeBytes: (number | null)[];
  readP50: (number | null)[];
  readP99: (number | null)[];
  writeP50: (number | null)[];
  writeP99: (number | null)[];
}

const LOOK_MS = 2000;
/** An answer that takes long is asked for no more often than this many times as long. */
const SHARE = 20;
/** Ten minutes at a look each two seconds. */
const POINTS = 300;
/** Courses are kept of so many things; of more, only of those that are looked at. */
const COURSES = 400;

const empty = (): Course => ({ seconds: [], reads: [], writes: [], readBytes: [], writeBytes: [], readP50: [], readP99: [], writeP50: [], writeP99: [] });

/** The bound below which a share of what came between two looks stayed. */
export function quantile(share: number, now: Histogram[], before: Histogram[]): number | undefined {
  const counts = difference(now, before);
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all <= 0) return undefined;
  const rank = Math.max(1, Math.ceil(share * all));
  let seen = 0;
  const bounds = now[0]?.bounds_ns ?? [];
  for (const [at, count] of counts.entries()) {
    seen += count;
    if (seen >= rank) return bounds[at] ?? bounds[bounds.length - 1];
  }
  return bounds[bounds.length - 1];
}

/** Commands by bucket, of all these, since those before. */
export function difference(now: Histogram[], before: Histogram[]): number[] {
  const counts: number[] = [];
  now.forEach((histogram, which) =>
    histogram.counts.forEach((count, at) => {
      counts[at] = (counts[at] ?? 0) + count - (before[which]?.counts[at] ?? 0);
    }),
  );
  return counts;
}

/** Whether counters went back: the appliance was started again, or the thing made anew. */
const wentBack = (now: Io, before: Io) => now.reads < before.reads || now.writes < before.writes;

export function rates(now: Io[], before: (Io | undefined)[], seconds: number): Rates {
  const known = now.map((io, at) => ({ io, was: before[at] })).filter((pair): pair is { io: Io; was: Io } => pair.was !== undefined && !wentBack(pair.io, pair.was));
  const per = (of: (io: Io) => number) => known.reduce((sum, { io, was }) => sum + of(io) - of(was), 0) / seconds;
  const latencies = (ios: Io[]) => ios.flatMap((io) => [io.read_latency, io.write_latency]);
  const [after, ahead] = [latencies(known.map((pair) => pair.io)), latencies(known.map((pair) => pair.was))];
  const one = (share: number, of: (io: Io) => Histogram) => quantile(share, known.map((pair) => of(pair.io)), known.map((pair) => of(pair.was)));
  const [read, write] = [(io: Io) => io.read_latency, (io: Io) => io.write_latency];
  return {
    reads: per((io) => io.reads),
    writes: per((io) => io.writes),
    readBytes: per((io) => io.read_bytes),
    writeBytes: per((io) => io.write_bytes),
    errors: per((io) => io.errors),
    throttled: per((io) => io.throttled),
    queueDepth: now.reduce((sum, io) => sum + io.queue_depth, 0),
    p50: quantile(0.5, after, ahead),
    p99: quantile(0.99, after, ahead),
    readP50: one(0.5, read),
    readP99: one(0.99, read),
    writeP50: one(0.5, write),
    writeP99: one(0.99, write),
  };
}

type Named = Map<string, Io>;

/** Everything that has counters, by kind and name. */
function named(statistics: Statistics): Named {
  const all: Named = new Map();
  for (const { pool, volume, io } of statistics.volumes) all.set(`volume ${pool ? `${pool}/` : ""}${volume}`, io);
  for (const { host, io } of statistics.hosts) all.set(`host ${host}`, io);
  for (const { device, io } of statistics.devices) all.set(`device ${device}`, io);
  return all;
}

/** What a volume, host or device is called here. */
export type Key = string;
export const ALL = "all";

class LiveStatistics {
  /** The newest, as it came. */
  newest = $state.raw<Statistics | undefined>();
  now = $state.raw<Map<Key, Rates>>(new Map());
  courses = $state.raw<Map<Key, Course>>(new Map());
  /** Seconds between looks. */
  every = $state(LOOK_MS / 1000);
  error = $state("");

  private before: { at: number; ios: Named } | undefined;
  private users = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private looking = false;

  /** Looks for as long as somebody uses it. Returns what ends that. */
  use(): () => void {
    this.users++;
    if (this.users === 1) void this.look();
    const shown = () => document.hidden || void this.look();
    document.addEventListener("visibilitychange", shown);
    return () => {
      document.removeEventListener("visibilitychange", shown);
      this.users--;
      if (this.users === 0) clearTimeout(this.timer);
    };
  }

  private async look(): Promise<void> {
    if (this.looking || document.hidden) return;
    clearTimeout(this.timer);
    this.looking = true;
    const began = Date.now();
    try {
      this.take(await get(api.GET("/api/v1/statistics")));
      this.error = "";
    } catch (error) {
      this.error = (error as Error).message;
      this.before = undefined;
    }
    this.looking = false;
    const wait = Math.max(LOOK_MS, (Date.now() - began) * SHARE);
    this.every = Math.round(wait / 1000);
    if (this.users > 0) this.timer = setTimeout(() => void this.look(), wait);
  }

  private take(statistics: Statistics): void {
    const [at, ios] = [statistics.at_ms, named(statistics)];
    const before = this.before;
    this.newest = statistics;
    this.before = { at, ios };
    if (!before || at <= before.at) return;
    const seconds = (at - before.at) / 1000;
    const now = new Map<Key, Rates>();
    const volumes: Key[] = [];
    for (const [key, io] of ios) {
      now.set(key, rates([io], [before.ios.get(key)], seconds));
      if (key.startsWith("volume ")) volumes.push(key);
    }
    const of = (from: Named) => volumes.map((key) => from.get(key));
    now.set(ALL, rates(of(ios) as Io[], of(before.ios), seconds));
    this.now = now;
    this.courses = this.extended(now, at / 1000);
  }

  private extended(now: Map<Key, Rates>, at: number): Map<Key, Course> {
    const courses = new Map<Key, Course>();
    for (const [key, rate] of now) {
      const course = this.courses.get(key);
      if (!course && courses.size >= COURSES && key !== ALL) continue;
      courses.set(key, grown(course ?? empty(), rate, at));
    }
    return courses;
  }
}

function grown(course: Course, rate: Rates, at: number): Course {
  const add = <T>(list: T[], value: T) => [...list.slice(-POINTS + 1), value];
  return {
    seconds: add(course.seconds, at),
    reads: add(course.reads, rate.reads),
    writes: add(course.writes, rate.writes),
    readBytes: add(course.readBytes, rate.readBytes),
    writeBytes: add(course.writeBytes, rate.writeBytes),
    readP50: add(course.readP50, rate.readP50 ?? null),
    readP99: add(course.readP99, rate.readP99 ?? null),
    writeP50: add(course.writeP50, rate.writeP50 ?? null),
    writeP99: add(course.writeP99, rate.writeP99 ?? null),
  };
}

export const statistics = new LiveStatistics();
