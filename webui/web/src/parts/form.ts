// What the fields of a form know of what was refused.

import { getContext, setContext } from "svelte";
import { Refused } from "../api/client";

export interface Form {
  readonly error: Error | undefined;
  /** Says that a field shows what is said of this name. */
  claim(name: string): void;
}

const KEY = Symbol("form");

export const provide = (form: Form) => setContext(KEY, form);
export const form = () => getContext<Form | undefined>(KEY);

/** The field that an error is about. */
export function fieldOf(error: Error | undefined): string | undefined {
  if (!(error instanceof Refused)) return undefined;
  return error.field ?? (error.kind === "exists" ? "name" : undefined);
}
