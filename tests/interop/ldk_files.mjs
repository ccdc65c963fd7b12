// LDK itself on a directory in its file system layout: its official WASM bindings decode and encode the values, and
// the file operations here are those of rust-lightning's `FilesystemStore` (v1), which the bindings do not have.
//
//   node ldk_files.mjs read DIRECTORY     lists all keys, decodes graph and scorer, prints what LDK makes of them
//   node ldk_files.mjs write DIRECTORY    decodes graph and scorer, and writes them again as LDK would
//
// One line of JSON on standard output. LDK_NODE_MODULES names the node_modules to use, if not the one beside this file.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

console.log = (...words) => process.stderr.write(words.join(" ") + "\n"); // the bindings greet
const modules = process.env.LDK_NODE_MODULES ?? path.join(path.dirname(fileURLToPath(import.meta.url)), "node_modules");
const ldk = await import(pathToFileURL(path.join(modules, "lightningdevkit", "index.mjs")).href);
await ldk.initializeWasmFromBinary(fs.readFileSync(path.join(modules, "lightningdevkit", "liblightningjs.wasm")));

const [command, directory] = process.argv.slice(2);
const logger = ldk.Logger.new_impl({ log() {} });
const NAME = /^[A-Za-z0-9_-]{1,120}$/;

// list_all_keys: `.tmp` and `.trash` are skipped; any other name must be a key's, at most two directories deep.
function keys(place = directory, namespaces = []) {
  const found = [];
  for (const entry of fs.readdirSync(place, { withFileTypes: true })) {
    if ([".tmp", ".trash"].includes(path.extname(entry.name))) continue;
    if (!NAME.test(entry.name)) throw new Error(`not a valid key: ${entry.name}`);
    if (entry.isFile()) found.push([...namespaces, entry.name].join("/"));
    else if (namespaces.length < 2) found.push(...keys(path.join(place, entry.name), [...namespaces, entry.name]));
    else throw new Error(`too deep: ${entry.name}`);
  }
  return found.sort();
}

function decoded(result, name) {
  if (!result.is_ok()) throw new Error(`LDK does not decode ${name}`);
  return result.res;
}

let count = 0;
function write(key, bytes) {
  const target = path.join(directory, key), temporary = `${target}.${count++}.tmp`;
  fs.mkdirSync(path.dirname(target), { recursive: true });
  const file = fs.openSync(temporary, "w");
  fs.writeSync(file, bytes);
  fs.fsyncSync(file);
  fs.closeSync(file);
  fs.renameSync(temporary, target);
  const parent = fs.openSync(path.dirname(target), "r");
  fs.fsyncSync(parent);
  fs.closeSync(parent);
}

const bytes = (name) => new Uint8Array(fs.readFileSync(path.join(directory, name)));
const graph = decoded(ldk.NetworkGraph.constructor_read(bytes("network_graph"), logger), "network_graph");
const decay = ldk.ProbabilisticScoringDecayParameters.constructor_default();
const scorer = decoded(ldk.ProbabilisticScorer.constructor_read(bytes("scorer"), decay, graph, logger), "scorer");
if (command === "write") {
  write("network_graph", graph.write());
  write("scorer", scorer.write());
  write("monitors/ab_0", Uint8Array.of(1, 2, 3));
  write("monitor_updates/ab_0/1", new Uint8Array());
}
const view = graph.read_only();
process.stdout.write(JSON.stringify({
  keys: keys(),
  channels: view.list_channels().map(String),
  nodes: view.list_nodes().length,
  scorer: Buffer.from(scorer.write()).toString("hex"),
}) + "\n");
