// The stream of events: what tells the page that something changed, and whether it still hears.

import { createParser } from "eventsource-parser";
import { refusal, Refused, type Schemas } from "../api/client";
import { session } from "./session.svelte";

export type Event = Schemas["Event"];
type Heard = (event: Event) => void;

/** The appliance says that it is there each 15 s; after two that did not come nobody is. */
const SILENCE_MS = 35_000;
const LONGEST_WAIT_MS = 10_000;

class Events {
  /** Whether what is shown follows the appliance. */
  live = $state(false);
  /** When the appliance was heard last; what is shown is not older while `live`. */
  heardAt = $state(0);
  /** Why it is not. */
  why = $state("");
  /** The newest, newest first. */
  recent = $state.raw<Event[]>([]);

  private last: number | undefined;
  private stop: AbortController | undefined;
  private listeners = new Set<Heard>();
  private losers = new Set<() => void>();

  /** Has `heard` called for each event, and `lost` when some were missed. Returns what ends that. */
  follow(heard: Heard, lost: () => void): () => void {
    this.listeners.add(heard);
    this.losers.add(lost);
    return () => {
      this.listeners.delete(heard);
      this.losers.delete(lost);
    };
  }

  /** Follows until it is stopped. A page that nobody looks at follows nothing. */
  start(): () => void {
    const look = () => {
      if (document.hidden) this.close();
      else void this.open();
    };
    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      document.removeEventListener("visibilitychange", look);
      this.close();
    };
  }

  private close(): void {
    this.stop?.abort();
    this.stop = undefined;
    this.live = false;
    this.why = "";
  }

  private async open(): Promise<void> {
    if (this.stop) return;
    const stop = new AbortController();
    this.stop = stop;
    for (let tries = 0; !stop.signal.aborted; tries++) {
      const was = this.heardAt;
      try {
        await this.read(stop);
        this.why = "The appliance ended the stream of events.";
      } catch (error) {
        this.why = error instanceof Refused ? error.message : "The appliance does not answer.";
      }
      if (stop.signal.aborted) return;
      this.live = false;
      if (this.heardAt !== was) tries = 0;
      await pause(Math.min(500 * 2 ** tries, LONGEST_WAIT_MS), stop.signal);
      // Says at once whether the session outlived what happened.
      if (!stop.signal.aborted && !(await answers(stop.signal))) continue;
    }
  }

  private async read(stop: AbortController): Promise<void> {
    const query = this.last === undefined ? "" : `?after=${this.last}`;
    const missed = this.last !== undefined;
    const silence = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      this.heardAt = Date.now();
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    };
    try {
      const signal = AbortSignal.any([stop.signal, silence.signal]);
      const response = await fetch(`/api/v1/events/stream${query}`, { signal });
      if (!response.ok || !response.body) throw refusal(response.status, await response.json().catch(() => undefined));
      heard();
      this.live = true;
      this.why = "";
      // What happened before the stream was open is not in it.
      if (!missed) this.losers.forEach((lost) => lost());
      const parser = createParser({ onEvent: ({ event, data }) => this.take(event, data) });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        heard();
        parser.feed(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  private take(kind: string | undefined, data: string): void {
    if (kind === "lost") {
      this.losers.forEach((lost) => lost());
      return;
    }
    const event = JSON.parse(data) as Event;
    this.last = event.id;
    this.recent = [event, ...this.recent].slice(0, 200);
    this.listeners.forEach((heard) => heard(event));
  }
}

/** Whether the appliance answers. Sends who is no longer known to it to the sign-in. */
async function answers(signal: AbortSignal): Promise<boolean> {
  try {
    const response = await fetch("/api/v1/session", { signal });
    if (response.status === 401) {
      await session.ended();
      return false;
    }
    return response.ok;
  } catch {
    return false;
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

export const events = new Events();
