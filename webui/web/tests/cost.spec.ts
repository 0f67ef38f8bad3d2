// What an open page costs the appliance, and how soon it can be used. Printed, not judged: other
// programs run beside it. `scripts/web cost`.

import { readFileSync } from "node:fs";
import { expect, signIn, test } from "./fixtures";

const seconds = Number(process.env.FOREBAY_COST ?? 0);

if (seconds > 0) {
  test("what an open page costs", async ({ page, appliance }) => {
    test.setTimeout((4 * seconds + 60) * 1000);
    for (let at = 0; at < 20; at++) await appliance.ask("POST", "/pools/tank/volumes", { name: `v${at}`, bytes: 2 ** 30, allow_any_host: true });
    /** Seconds of processor time of the appliance so far. */
    const spent = () => {
      const [, rest] = readFileSync(`/proc/${appliance.pid}/stat`, "utf8").split(") ");
      const fields = (rest ?? "").split(" ");
      return (Number(fields[11]) + Number(fields[12])) / 100;
    };
    const over = async (what: string) => {
      const before = spent();
      await page.waitForTimeout(seconds * 1000);
      console.log(`${what}: ${(((spent() - before) / seconds) * 100).toFixed(2)} % of a core`);
    };
    await over("without a page");
    await signIn(page, appliance);
    await page.reload();
    await expect(page.getByText("Live", { exact: true })).toBeVisible();
    const ready = await page.evaluate(() => {
      const navigation = performance.getEntriesByType("navigation")[0] as PerformanceNavigationTiming;
      return { interactive: navigation.domInteractive, first: performance.getEntriesByName("first-contentful-paint")[0]?.startTime };
    });
    console.log(`first content after ${ready.first?.toFixed(0)} ms, interactive after ${ready.interactive.toFixed(0)} ms`);
    await over("with the overview open");
    await page.goto(`${appliance.url}/#/volumes/tank/v0`);
    await over("with a volume open");
  });
}
