// The two pictures of the README: an appliance at work.

import { expect, signIn, test } from "./fixtures";

const folder = process.env.FOREBAY_PICTURES;

if (folder) {
  test("an appliance at work @pictures", async ({ page, appliance }) => {
    test.setTimeout(120_000);
    const hosts = ["gpu-01", "gpu-02", "gpu-03"].map((name) => `nqn.2026-01.org.example:${name}`);
    const volumes = ["scratch", "checkpoints", "datasets", "models"];
    for (const [at, name] of volumes.entries()) {
      await appliance.ask("POST", "/pools/tank/volumes", { name, bytes: (at + 1) * 2 ** 32, hosts: at < 3 ? hosts : [hosts[0]] });
    }
    await appliance.ask("POST", "/pools/tank/volumes/scratch/snapshots", { name: "monday" });
    await appliance.ask("POST", "/pools/tank/volumes/scratch/snapshots/monday/clone", { name: "trial", hosts: [hosts[1]] });
    await appliance.ask("POST", "/pools/tank/volumes/scratch/snapshots", { name: "tuesday" });
    await signIn(page, appliance);
    const stops = volumes.slice(0, 3).map((name, at) => appliance.busyHost(`nqn.2026-01.io.forebay:tank:${name}`, "--hostnqn", hosts[at] ?? "", "--length", `${512 - at * 100}MiB`));
    for (const [name, place] of [["overview", "/"], ["volume", "/volumes/tank/scratch"]]) {
      await page.goto(`${appliance.url}/#${place}`);
      await expect(page.getByRole("img", { name: /Commands a second, of late: read .*, write [1-9]/ })).toBeVisible();
      // A curve takes a while to be one.
      await page.waitForTimeout(name === "overview" ? 30_000 : 4000);
      await page.screenshot({ path: `${folder}/readme-${name}.png`, clip: { x: 0, y: 0, width: 1280, height: 900 } });
    }
    for (const stop of stops) await stop();
  });
}
