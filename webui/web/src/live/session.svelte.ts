// Who is signed in. The cookie is out of reach of scripts; the token is forgotten once it was sent.

import { api, get, Refused, whenSignedOut, type Schemas } from "../api/client";

type Role = Schemas["Role"];
const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

class Session {
  /** Nothing: not known yet. */
  state = $state<"unknown" | "out" | "in">("unknown");
  name = $state("");
  role = $state<Role>("viewer");
  /** Why one is not signed in, or why that is not known. */
  why = $state("");

  constructor() {
    whenSignedOut((why) => {
      if (this.state === "in") this.end(why);
    });
  }

  /** Whether this role may do what asks for that one. */
  may(role: Role): boolean {
    return RANK[this.role] >= RANK[role];
  }

  async look(): Promise<void> {
    try {
      this.begin(await get(api.GET("/api/v1/session")));
    } catch (error) {
      if (error instanceof Refused) {
        // On a first visit there is nothing to say.
        this.end("");
      } else {
        this.why = (error as Error).message;
        setTimeout(() => void this.look(), 2000);
      }
    }
  }

  async signIn(token: string): Promise<void> {
    this.begin(await get(api.POST("/api/v1/session", { body: { token } })));
  }

  /** As with a token, by the code of a link. */
  async signInBy(code: string): Promise<void> {
    try {
      await this.signIn(code);
    } catch (error) {
      const why = error instanceof Refused ? "The link is not good any more: it is good once, and for five minutes." : (error as Error).message;
      this.end(why);
    }
  }

  async signOut(): Promise<void> {
    await get(api.DELETE("/api/v1/session"));
    this.end("");
  }

  /** The appliance does not know this session any more: it was started again, or the token is gone. */
  async ended(): Promise<void> {
    if (this.state === "in") await this.look();
    if (this.state === "out") this.why = "The session has ended: sign in again.";
  }

  private begin(who: Schemas["Session"]): void {
    this.name = who.name;
    this.role = who.role;
    this.why = "";
    this.state = "in";
  }

  private end(why: string): void {
    this.why = why;
    this.state = "out";
  }
}

export const session = new Session();
