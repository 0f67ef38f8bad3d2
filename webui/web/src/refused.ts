import type { Schemas } from "./api/client";

/** Whether somebody should decide on a host: it was refused, and not let in where it asked since. */
export const isRefused = ({ last_refusal, controllers, subsystems }: Schemas["Host"]): boolean =>
  !!last_refusal && controllers === 0 && !(last_refusal.subsystem && subsystems.includes(last_refusal.subsystem));
