import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

// The appliance that `npm run dev` asks: `FOREBAY_API=http://127.0.0.1:4480 npm run dev`.
const appliance = process.env.FOREBAY_API ?? "http://127.0.0.1:4480";

const dist = join(import.meta.dirname, "dist");

/** Empties the folder but for what git knows, and puts each file there packed beside it. */
const packed: Plugin = {
  name: "packed",
  apply: "build",
  buildStart() {
    for (const name of readdirSync(dist)) if (name !== ".gitignore") rmSync(join(dist, name), { recursive: true });
  },
  closeBundle() {
    for (const name of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
      if (/\.(html|js|css|svg)$/.test(name)) writeFileSync(join(dist, `${name}.gz`), gzipSync(readFileSync(join(dist, name)), { level: 9 }));
    }
  },
};

export default defineConfig({
  plugins: [svelte(), packed],
  build: {
    target: "es2022",
    emptyOutDir: false,
    // Nothing stands in the page itself: its policy lets only files of the appliance run and style it.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  server: {
    proxy: {
      "/api": {
        target: appliance,
        changeOrigin: true,
        // The appliance takes changes from its own pages only.
        configure: (proxy) => proxy.on("proxyReq", (request) => request.setHeader("origin", appliance)),
      },
    },
  },
});
