// An API that is made up: as much as is wanted, with what the real one would not say.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { components } from "../src/api/schema";
import type { Handler } from "./front";

type Schemas = components["schemas"];

export interface MadeUp {
  /** How many volumes there are. */
  volumes: number;
  /** The text that stands wherever somebody may write one. */
  text: string;
  /** How long each answer takes. */
  slowMs: number;
  /** What is answered to paths that contain this, instead. */
  instead: Map<string, (response: ServerResponse) => void>;
  /** What was asked for. */
  asked: string[];
}

export function madeUp(): MadeUp {
  return { volumes: 3, text: "plain", slowMs: 0, instead: new Map(), asked: [] };
}

const POOL = "tank";
const io = (): Schemas["IoStatistics"] => ({ reads: 0, writes: 0, others: 0, read_bytes: 0, write_bytes: 0, errors: 0, queue_depth: 0, throttled: 0, read_latency: { bounds_ns: [], counts: [0], sum_ns: 0 }, write_latency: { bounds_ns: [], counts: [0], sum_ns: 0 } });
const name = (at: number) => `volume-${String(at).padStart(5, "0")}`;

function volume(at: number, { text }: MadeUp): Schemas["Volume"] {
  return {
    pool: POOL, name: text === "plain" ? name(at) : `${text}${at}`, uuid: "cc40dbfb-01b1-4560-b8d0-bcb5fde9da86", bytes: (at + 1) * 2 ** 30, block_bytes: 4096, atomic_write_bytes: 4096, thick: false,
    limits: { iops: null, bytes_per_second: null, burst_seconds: 0 }, space: { used_bytes: at * 2 ** 20, exclusive_bytes: 0, reserved_bytes: 0 }, origin: at ? { pool: POOL, volume: text, snapshot: text } : null, snapshots: 1,
    export: { subsystem: `nqn.2026-01.io.forebay:${text}:${at}`, nsid: 1, own: true, hosts: [`nqn.host:${text}`], allow_any_host: false, controllers: 0 },
    created_at_ms: 1_790_000_000_000, status: at % 100 === 7 ? "degraded" : "ok", reason: text,
  };
}

const event = (id: number, text: string): Schemas["Event"] => ({ id, at_ms: Date.now(), kind: "notice", severity: "warning", object: { kind: "volume", name: `${POOL}/${text}` }, message: text });

/** What is answered to a GET. */
function shown(path: string, made: MadeUp): unknown {
  const { text } = made;
  const items = <T>(...all: T[]) => ({ items: all });
  const space = { total_bytes: 2 ** 40, free_bytes: 2 ** 39, used_bytes: 2 ** 39, reserved_bytes: 0, shared_bytes: 0, reclaimable_bytes: 0 };
  const how = { status: "degraded" as const, reason: text };
  const refusal = { at_ms: Date.now(), address: text, subsystem: text, reason: text, count: 2 };
  const host = { nqn: `nqn.host:${text}`, subsystems: [text], controllers: 0, addresses: [text], last_refusal: refusal, ...how };
  const namespace = { nsid: 1, uuid: text, source: { device: text }, bytes: 1, block_bytes: 512, read_only: false, ...how };
  const object = { kind: "volume", name: text };
  const pool = { name: POOL, uuid: text, devices: [{ number: 0, device: text, path: text, uuid: text, state: "member", metadata: true, total_bytes: 9, used_bytes: 1, discard: { on: true, reason: text, discarded_bytes: 1, waiting_bytes: 1 }, ...how }], space, volumes: made.volumes, snapshots: 0, extent_bytes: 2 ** 20, discard: "auto", ...how };
  const answers: [RegExp, () => unknown][] = [
    [/^session$/, () => ({ name: text === "plain" ? "admin" : text, role: "admin" })],
    [/^appliance$/, () => ({ name: text, version: text, started_at_ms: 1, reactors: 2, memory: text, rdma: text, connections: 0, ...how })],
    [/^appliance\/slots$/, () => ({ running: "a", slots: [{ slot: text, state: "good", title: text }], staged_bytes: 0, reason: text })],
    [/^alerts$/, () => items({ id: text, since_ms: 1, severity: "critical", object, message: text, advice: text })],
    [/^events$/, () => ({ items: [event(1, text), event(2, text)], lost: false, last_id: 2 })],
    [/^pools$/, () => items(pool)],
    [/^pools\/[^/]+$/, () => pool],
    [/^volumes$/, () => ({ items: Array.from({ length: made.volumes }, (_, at) => volume(at, made)) })],
    [/^pools\/[^/]+\/volumes\/[^/]+$/, () => volume(1, made)],
    [/snapshots$/, () => items({ pool: POOL, volume: text, name: text, bytes: 1, created_at_ms: 1, exclusive_bytes: 1, clones: [text], export: null, ...how })],
    [/connect-info$/, () => ({ subsystem: text, nsid: 1, uuid: text, hosts: [], allow_any_host: true, addresses: [{ transport: "tcp", address: "10.0.0.1:4420" }], lines: [text], warning: text })],
    [/^hosts$/, () => items(host)],
    [/^hosts\/[^/]+$/, () => host],
    [/^controllers$/, () => items({ subsystem: text, cntlid: 1, host: text, address: text, transport: "tcp", keep_alive_ms: 1, errors: 0, queues: [], ...how })],
    [/^subsystems$/, () => items({ nqn: text, own: false, hosts: [text], allow_any_host: false, namespaces: [namespace], controllers: 0, ...how })],
    [/^listeners$/, () => items({ transport: "tcp", address: text, discovery_only: false, ...how })],
    [/^devices$/, () => items({ name: text, kind: "nvme", path: text, model: text, serial: text, bytes: 1, block_bytes: 512, volatile_cache: true, pool: null, drive: { driver: text, firmware: text, health: text, resets: 0, timeouts: 0, errors: 0 }, ...how })],
    [/^drives$/, () => items({ address: text, model: text, serial: text, firmware: text, driver: text, health: text, contents: [text], devices: [] })],
    [/^jobs$/, () => items({ id: 1, kind: "drain", object, done_bytes: 1, total_bytes: 2, bytes_per_second: 1, seconds_left: 1, started_at_ms: 1, ended_at_ms: null, status: "running", reason: text })],
    [/^tokens$/, () => items({ name: text, role: "viewer", created_at_ms: 1 })],
    [/^audit$/, () => items({ number: 1, at_ms: 1, count: 1, who: text, role: "admin", address: text, operation: text, method: "GET", path: text, status: 200 })],
    [/^statistics$/, () => ({ at_ms: Date.now(), uptime_ms: 1, connections: 0, connections_refused: 0, volumes: [{ pool: POOL, volume: text, io: { ...io(), reads: made.asked.length * 10 } }], hosts: [{ host: text, controllers: 1, io: { ...io(), writes: made.asked.length * 10 } }], devices: [], pools: [], reactors: [] })],
  ];
  return answers.find(([is]) => is.test(path))?.[1]();
}

export function answer(made: MadeUp): Handler {
  return (request: IncomingMessage, response: ServerResponse) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname.replace("/api/v1/", ""));
    made.asked.push(`${request.method} ${path}`);
    const say = (status: number, body: unknown) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    setTimeout(() => {
      const instead = [...made.instead].find(([part]) => `${request.method} ${path}`.includes(part));
      if (instead) return instead[1](response);
      if (path === "events/stream") {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(`: events follow\n\nid: 3\nevent: notice\ndata: ${JSON.stringify(event(3, made.text))}\n\n`);
        return;
      }
      const body = request.method === "GET" ? shown(path, made) : undefined;
      if (body === undefined) return say(404, { error: { kind: "not_found", message: made.text } });
      say(200, body);
    }, made.slowMs);
  };
}

export const refuse = (status: number, kind: Schemas["RefusalKind"], message: string) => (response: ServerResponse) => void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error: { kind, message } }));
