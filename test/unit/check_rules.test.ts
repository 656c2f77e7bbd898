import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkFile } from "../../scripts/check_rules.ts";
import { scanSource } from "../../scripts/source_scan.ts";

const test = suite("check_rules");

const faults = (path: string, text: string) =>
  checkFile(path, text).map((finding) => `${finding.line}: ${finding.text}`);

test("import against the direction of the rooms -> found", () => {
  const rows: [string, string][] = [
    ["hal/linux/x.ts", 'import { a } from "../../firmware/log/a.ts";'],
    ["hal/api/x.ts", 'import type { A } from "../../firmware/log/a.ts";'],
    ["firmware/log/x.ts", 'import { a } from "node:fs";'],
    ["firmware/log/x.ts", 'import type { Server } from "bun";'],
    ["firmware/log/x.ts", 'import { a } from "../../hal/linux/a.ts";'],
    ["firmware/log/x.ts", 'const a = await import("../../hal/mock/a.ts");'],
    ["firmware/log/x.ts", 'export { a } from "bun:ffi";'],
    ["firmware/log/x.ts", 'import {\n  a,\n  b,\n} from "node:fs";'],
    ["hal/mock/x.ts", 'import { a } from "node:crypto";'],
    ["firmware/log/x.ts", 'import { a } from "./a";'],
  ];
  for (const [path, text] of rows) assert.is(faults(path, text).length, 1, `${path} ${text}`);
});

test("import along the direction -> fine", () => {
  const rows: [string, string][] = [
    ["firmware/main.ts", 'import { a } from "../hal/linux/a.ts";\nimport { b } from "node:fs";'],
    ["firmware/shell/main.ts", 'import { b } from "node:fs";'],
    ["firmware/log/x.ts", 'import type { Clock } from "../../hal/api/clock.ts";\nimport * as v from "valibot";'],
    ["hal/linux/x.ts", 'import { a } from "node:fs";\nimport type { B } from "../api/b.ts";'],
    ["firmware/log/x.ts", '// import { a } from "node:fs";\nconst text = \'from "node:fs"\';'],
  ];
  for (const [path, text] of rows) assert.equal(faults(path, text), [], `${path} ${text}`);
});

test("real time, timers, randomness in a core -> found; in comments, strings and hal/linux -> fine", () => {
  const calls = [
    "Date.now()",
    "new Date()",
    "performance.now()",
    "Math.random()",
    "setTimeout(f, 1)",
    "setInterval(f, 1)",
    "setImmediate(f)",
    "queueMicrotask(f)",
    "crypto.randomUUID()",
    "globalThis.x",
    "Bun.sleep(1)",
    "process.exit(1)",
    "console.log(1)",
    "`text ${" + "Date.now()} text`",
  ];
  for (const call of calls) {
    for (const path of ["firmware/log/x.ts", "hal/mock/x.ts", "hal/api/x.ts"]) {
      assert.is(faults(path, `const a = ${call};`).length, 1, `${path} ${call}`);
    }
    assert.equal(faults("hal/linux/x.ts", `const a = ${call};`), [], call);
    assert.equal(faults("firmware/log/x.ts", `// ${call}\n/* ${call} */`), [], call);
  }
  assert.equal(faults("firmware/log/x.ts", "const a = 'Date.now()' + \"Math.random()\" + `setTimeout(f)`;"), []);
  assert.equal(faults("firmware/log/x.ts", "const a = clock.setTimeout(f);"), []);
  assert.equal(faults("firmware/log/x.ts", "const a = b / c; Date.now(); const d = /Date.now()/;").length, 1);
});

test("unfinished work, long files, default exports, skipped tests -> found with their line", () => {
  const word = "TO" + "DO";
  assert.equal(faults("firmware/log/x.ts", `const a = 1;\n// ${word} more`), [`2: unfinished work: ${word}`]);
  assert.is(faults("proto/x.proto", `// ${word}`).length, 1);
  assert.is(faults("hal/mock/x.ts", "\n".repeat(601)).length, 1);
  assert.is(faults("hal/mock/x.ts", "export default 1;").length, 1);
  assert.is(faults("hal/mock/x.ts", 'export * from "./a.ts";').length, 1);
  assert.is(faults("test/unit/x.test.ts", "test.sk" + 'ip("a", () => {});').length, 1);
  assert.is(faults("test/unit/x.test.ts", "test.on" + 'ly("a", () => {});').length, 1);
});

test("source with nested templates, regular expressions, comments -> lines keep their numbers", () => {
  const text = 'const a = `x @{b ? `y @{c}` : /[/`]/.test(d)} z`; // e\n/* f\n g */ const h = "//";\n'.replaceAll(
    "@",
    "$",
  );
  const { codeOnly, withStrings } = scanSource(text);
  assert.is(codeOnly.split("\n").length, text.split("\n").length);
  assert.is(codeOnly.length, text.length);
  assert.match(codeOnly, /\${b \? `\s+\${c}` : /);
  assert.not.match(withStrings, "// e");
  assert.match(withStrings, 'const h = "//";');
});

test.run();
