// Where in the page one is: behind the `#`, which is sent to nobody.

class Route {
  parts = $state.raw<string[]>(read());

  constructor() {
    addEventListener("hashchange", () => this.look());
  }

  /** Takes over where the browser is. */
  look(): void {
    this.parts = read();
    scrollTo(0, 0);
  }
}

function read(): string[] {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean);
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return [];
  }
}

export const route = new Route();

/** The link to a place. */
export const to = (...parts: string[]) => `#/${parts.map(encodeURIComponent).join("/")}`;

export function go(...parts: string[]): void {
  location.hash = to(...parts);
}

/** The link to what an event or alert is about, where there is a place for it. */
export function toObject({ kind, name }: { kind: string; name: string }): string | undefined {
  switch (kind) {
    case "volume":
      return to("volumes", ...name.split("/"));
    case "snapshot":
      return to("volumes", ...(name.split("@")[0] ?? "").split("/"));
    case "pool":
      return to("pools", name);
    case "device":
    case "drive":
      return to("devices");
    case "host":
      return to("hosts", name);
    case "subsystem":
    case "namespace":
    case "controller":
    case "listener":
      return to("subsystems");
    case "job":
      return to("jobs");
    case "token":
      return to("settings");
    default:
      return undefined;
  }
}
