// The real appliance, in a folder of its own, and hosts that connect to it.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "@playwright/test";
import { Front, passOn } from "./front";

const BINARY = process.env.FOREBAY_BIN ?? join(import.meta.dirname, "../../../build/release/forebay");

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export class Appliance {
  private child: ChildProcess | undefined;
  private front: Front | undefined;
  token = "";

  private constructor(
    readonly folder: string,
    private readonly api: number,
    readonly fabric: number,
  ) {}

  static async start(): Promise<Appliance> {
    const folder = mkdtempSync(join(tmpdir(), "forebay-web-"));
    const appliance = new Appliance(folder, await freePort(), await freePort());
    await appliance.run();
    // The page as it was built just now, and not as it was when the binary was.
    if (process.env.FOREBAY_PAGE === "dist") appliance.front = await Front.start(passOn(appliance.own));
    appliance.token = readFileSync(join(folder, "admin.token"), "utf8").trim();
    return appliance;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Where its page is. */
  get url(): string {
    return this.front?.url ?? this.own;
  }

  get own(): string {
    return `http://127.0.0.1:${this.api}`;
  }

  async run(): Promise<void> {
    const child = spawn(BINARY, ["serve", "--data-dir", this.folder, "--api", `127.0.0.1:${this.api}`, "--listen", `127.0.0.1:${this.fabric}`, "--memory", "32MiB"], { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    let said = "";
    child.stderr.on("data", (text: Buffer) => (said += text.toString()));
    await new Promise<void>((ready, failed) => {
      child.stdout.on("data", (text: Buffer) => text.toString().includes("Forebay is ready") && ready());
      child.on("exit", (code) => failed(new Error(`the appliance ended with ${code}: ${said}`)));
    });
  }

  /** As a power cut of the process: nothing is said to anybody. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  async end(): Promise<void> {
    await this.front?.close();
    await this.kill("SIGTERM");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A sparse file that a pool can be made of. */
  disk(name: string, bytes: number): string {
    const path = join(this.folder, name);
    writeFileSync(path, "");
    truncateSync(path, bytes);
    return path;
  }

  async ask<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.own}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async tokenOf(name: string, role: string): Promise<string> {
    return (await this.ask<{ secret: string }>("POST", "/tokens", { name, role })).secret;
  }

  /** What a command of the same machine prints. */
  command(...words: string[]): string {
    return execFileSync(BINARY, [...words, "--data-dir", this.folder], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  }

  /** A host that connects, by our own initiator, and writes. Returns how that ended. */
  async host(nqn: string, ...more: string[]): Promise<{ code: number; said: string }> {
    const child = spawn(BINARY, ["io", "write", `127.0.0.1:${this.fabric}`, "--nqn", nqn, "--seed", "7", ...more], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (text: Buffer) => (said += text.toString()));
    const [code] = await once(child, "exit");
    return { code: Number(code ?? 1), said };
  }

  /** The same again and again, until it is told to end. Returns what tells it. */
  busyHost(nqn: string, ...more: string[]): () => Promise<void> {
    let on = true;
    const all = (async () => {
      while (on) expect(await this.host(nqn, ...more)).toMatchObject({ code: 0 });
    })();
    return () => {
      on = false;
      return all;
    };
  }
}
