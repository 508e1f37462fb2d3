// RFC 8785 in JavaScript, whose own number and string writing the RFC prescribes.
// Reads one JSON value a line, writes its canonical bytes a line.
import { createInterface } from "node:readline";

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const pairs = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${pairs.join(",")}}`;
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(canonical(JSON.parse(line)) + "\n");
}
