// The page as it was built, with the headers that the appliance gives it, in front of an API that is
// made up or somewhere else.

import { createReadStream, existsSync } from "node:fs";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const DIST = join(import.meta.dirname, "../dist");
const TYPES: Record<string, string> = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server that ends with `close`. */
export class Front {
  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async start(api: Handler, port = 0): Promise<Front> {
    const server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://x").pathname;
      if (path.startsWith("/api/")) return api(request, response);
      const file = join(DIST, normalize(path === "/" ? "/index.html" : path));
      if (!existsSync(file)) return void response.writeHead(404).end();
      const packed = /gzip/.test(String(request.headers["accept-encoding"])) && existsSync(`${file}.gz`);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "text/plain", "content-security-policy": POLICY, "cache-control": "no-cache", ...(packed ? { "content-encoding": "gzip" } : {}) });
      createReadStream(packed ? `${file}.gz` : file).pipe(response);
    });
    await new Promise<void>((ready) => server.listen(port, "127.0.0.1", ready));
    return new Front(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((closed) => this.server.close(closed));
  }
}

/** Passes requests on to an appliance, as its own page would send them. */
export function passOn(appliance: string): Handler {
  return (incoming, outgoing) => {
    const { host } = new URL(appliance);
    const passed = request(`${appliance}${incoming.url}`, { method: incoming.method, headers: { ...incoming.headers, host, ...(incoming.headers.origin ? { origin: appliance } : {}) } }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
      answer.on("close", () => answer.complete || outgoing.destroy());
    });
    passed.on("error", () => outgoing.destroy());
    outgoing.on("close", () => passed.destroy());
    incoming.pipe(passed);
  };
}
