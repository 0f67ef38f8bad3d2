// The API, with the types of its document.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type RefusalKind = Schemas["RefusalKind"];

/** What the appliance did not do, in its own words. */
export class Refused extends Error {
  constructor(
    readonly kind: RefusalKind,
    message: string,
  ) {
    super(message);
  }

  /** The field that it is about, as the request writes it; nothing if it is about the whole. */
  get field(): string | undefined {
    const named = /^The body at ([\w.]+)/.exec(this.message) ?? /^([a-z_]+(?:\.[a-z_]+)?) (?:is|must|and|has) /.exec(this.message);
    return named?.[1];
  }
}

/** The appliance did not answer. */
export class Unreachable extends Error {}

/** Requests end by themselves: the appliance answers within 60 s, whatever happens. */
const PATIENCE_MS = 70_000;

async function patiently(request: Request): Promise<Response> {
  try {
    return await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    throw new Unreachable("The appliance does not answer.");
  }
}

export const api = createClient<paths>({ baseUrl: "/", fetch: patiently });

/** Called when the appliance does not know this session any more. */
let onSignedOut: (why: string) => void = () => {};
export function whenSignedOut(tell: (why: string) => void): void {
  onSignedOut = tell;
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The error of an answer, whatever came. */
export function refusal(status: number, body: unknown): Error {
  const error = (body as { error?: { kind?: RefusalKind; message?: string } } | undefined)?.error;
  if (error?.kind && typeof error.message === "string") return new Refused(error.kind, error.message);
  return new Unreachable(`The appliance answered ${status} without saying why.`);
}

/** What a call answers; throws `Refused` or `Unreachable`. */
export async function get<T>(call: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch (error) {
    if (error instanceof Unreachable) throw error;
    throw new Unreachable("What the appliance answered cannot be read.");
  }
  if (answer.response.ok) return answer.data as T;
  const error = refusal(answer.response.status, answer.error);
  if (error instanceof Refused && error.kind === "unauthenticated") onSignedOut(error.message);
  throw error;
}

/** The items of a list. */
export async function list<T>(call: Promise<Answer<{ items: T[] }>>): Promise<T[]> {
  return (await get(call)).items;
}
