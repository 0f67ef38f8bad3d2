// What the appliance has, kept as it is: asked for again when an event says that it changed.

import { untrack } from "svelte";
import { Refused } from "../api/client";
import { events, type Event } from "./events.svelte";

/** Events that come together are one change. */
const GATHER_MS = 150;
/** What changes without an event (space, queues) is looked at so often. */
const LOOK_MS = 10_000;
/** An answer that takes long is asked for no more often than this many times as long. */
const SHARE = 30;

export class Resource<T> {
  data = $state.raw<T | undefined>();
  /** Why there is nothing, or nothing newer. */
  error = $state.raw<Error | undefined>();
  /** When it was so. */
  at = $state(0);

  private asking = false;
  private again = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = 0;
  private took = 0;
  private ended = false;

  constructor(
    private readonly ask: () => Promise<T>,
    readonly concerns: (event: Event) => boolean,
  ) {}

  /** Whether it is not there. */
  get missing(): boolean {
    return this.error instanceof Refused && this.error.kind === "not_found";
  }

  /** Asks again, soon. */
  soon(within = GATHER_MS): void {
    if (this.ended) return;
    const due = Math.max(Date.now() + within, this.at + this.took * 3);
    if (this.timer && this.due <= due) return;
    clearTimeout(this.timer);
    this.due = due;
    this.timer = setTimeout(() => void this.refresh(), due - Date.now());
  }

  async refresh(): Promise<void> {
    // Nobody sees it: asked again when somebody does.
    if (this.ended || document.hidden) return;
    if (this.asking) {
      this.again = true;
      return;
    }
    clearTimeout(this.timer);
    this.timer = undefined;
    this.asking = true;
    const began = Date.now();
    try {
      this.data = await this.ask();
      this.error = undefined;
      this.at = Date.now();
    } catch (error) {
      this.error = error as Error;
      if (this.missing) this.data = undefined;
    }
    this.took = Date.now() - began;
    this.asking = false;
    if (this.again) {
      this.again = false;
      this.soon();
    } else {
      this.soon(Math.max(LOOK_MS, this.took * SHARE));
    }
  }

  /** Keeps it as it is until the function that is returned is called. */
  keep(): () => void {
    const stop = events.follow(
      (event) => this.concerns(event) && this.soon(),
      () => this.soon(),
    );
    const look = () => document.hidden || this.soon();
    document.addEventListener("visibilitychange", look);
    void this.refresh();
    return () => {
      this.ended = true;
      clearTimeout(this.timer);
      document.removeEventListener("visibilitychange", look);
      stop();
    };
  }
}

/** A resource for as long as the component is there. `kinds`: what it shows; none: any. */
export function follow<T>(ask: () => Promise<T>, kinds: Event["object"]["kind"][], name?: string): Resource<T> {
  const about = (event: Event) =>
    (kinds.length === 0 || kinds.includes(event.object.kind)) && (name === undefined || event.object.name.startsWith(name));
  const resource = new Resource(ask, about);
  $effect(() => untrack(() => resource.keep()));
  return resource;
}
