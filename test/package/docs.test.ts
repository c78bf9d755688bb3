import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { root } from '../../scripts/entries.js';

const rootPath = fileURLToPath(root);

interface Example {
  /** The file that holds the block, relative to the repository. */
  readonly file: string;
  /** The line of its first line of code, from 1. */
  readonly line: number;
  readonly code: string;
  /** The name that its first line gives it (`// worker.ts`), by which the other blocks of the file import it. */
  readonly name: string | undefined;
}

/** The ```ts blocks of a text; a block that is indented, or in a comment of `prefix` lines, loses that. */
function blocksOf(file: string, text: string, inComments: boolean): Example[] {
  const examples: Example[] = [];
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  const fence = inComments ? /^(\s*\* ?\s*)```(\w*)/ : /^(\s*)```(\w*)/;
  for (let i = 0; i < lines.length; i++) {
    const [, indent = '', language] = (lines[i] as string).match(fence) ?? [];
    if (language === undefined) continue;
    const start = i + 1;
    do i++;
    while (i < lines.length && !fence.test(lines[i] as string));
    if (i === lines.length) throw new Error(`${file}:${start}: a code block without an end`);
    if (language !== 'ts') continue;
    const code = lines.slice(start, i).map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line.replace(/^\s*\*/, '')));
    examples.push({ file, line: start + 1, code: code.join('\n'), name: code[0]?.match(/^\/\/ (\S+\.ts)$/)?.[1] });
  }
  return examples;
}

const filesBelow = (folder: string, extension: string): string[] =>
  existsSync(join(rootPath, folder))
    ? readdirSync(join(rootPath, folder), { recursive: true, encoding: 'utf8' })
        .map((file) => `${folder}/${file.replaceAll('\\', '/')}`)
        .filter((file) => file.endsWith(extension) && !file.startsWith('docs/api/'))
        .sort()
    : [];

const sources = filesBelow('src', '.ts');
const guides = ['README.md', ...filesBelow('docs', '.md')].filter((file) => existsSync(join(rootPath, file)));
const textOf = (file: string): string => readFileSync(join(rootPath, file), 'utf8');

/** Sources that are the same in every program: the library, packages, TypeScript's own. */
const parsed = new Map<string, ts.SourceFile>();

/** Type errors of examples as `file:line: message`; each is a module of its own that imports the package by name. */
function errorsOf(examples: readonly Example[]): string[] {
  const { config } = ts.readConfigFile(join(rootPath, 'tsconfig.json'), ts.sys.readFile);
  const options: ts.CompilerOptions = {
    ...ts.parseJsonConfigFileContent(config, ts.sys, rootPath).options,
    moduleDetection: ts.ModuleDetectionKind.Force,
    noUnusedLocals: false,
    noUnusedParameters: false,
  };
  // Below package.json, so that they are ES modules and find packages; those with a name in a folder for their file.
  const folderOf = (file: string) => join(rootPath, `examples-of-${file.replaceAll('/', '-')}`);
  const pathOf = ({ file, name }: Example, i: number) => join(folderOf(file), name ?? `example-${i}.ts`);
  const modules = new Map(examples.map((example, i) => [pathOf(example, i), example]));
  if (modules.size < examples.length) throw new Error('two blocks of one file have the same name');
  const folders = new Set(examples.map(({ file }) => folderOf(file)));
  const host = ts.createCompilerHost(options);
  host.directoryExists = (folder) => folders.has(folder) || ts.sys.directoryExists(folder);
  const { fileExists, readFile } = host;
  host.fileExists = (file) => modules.has(file) || fileExists(file);
  host.readFile = (file) => modules.get(file)?.code ?? readFile(file);
  host.getSourceFile = (file, version) => {
    const text = host.readFile(file);
    if (text === undefined) return undefined;
    const source = parsed.get(file) ?? ts.createSourceFile(file, text, version);
    if (!modules.has(file)) parsed.set(file, source);
    return source;
  };
  const program = ts.createProgram([...modules.keys()], options, host);
  return [...modules].flatMap(([name, { file, line }]) => {
    const source = program.getSourceFile(name);
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(({ start, messageText }) => {
      const within = start === undefined || !source ? 0 : source.getLineAndCharacterOfPosition(start).line;
      return `${file}:${line + within}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
  });
}

describe('examples', () => {
  const inSource = sources.flatMap((file) => blocksOf(file, textOf(file), true));
  const inGuides = guides.flatMap((file) => blocksOf(file, textOf(file), false));

  test('of docstrings and guides type-check', () => {
    expect(inSource.length).toBeGreaterThan(0);
    expect(errorsOf([...inSource, ...inGuides])).toEqual([]);
  });

  test('of docstrings are ```ts blocks', () => {
    const others = sources.flatMap((file) =>
      [...textOf(file).matchAll(/^\s*\* @example\b.*\n(?!\s*\* ```ts$)/gm)].map(({ index }) => {
        const line = textOf(file).slice(0, index).split('\n').length;
        return `${file}:${line}: @example without a \`\`\`ts block on the next line`;
      }),
    );
    expect(others).toEqual([]);
  });
});

describe('the check', () => {
  const check = (text: string, inComments = false): string[] => errorsOf(blocksOf('guide.md', text, inComments));

  test('reports the line of an error', () => {
    const text = "Text\n\n```ts\nimport { add } from 'tracegrad';\n\nadd('one', 2);\n```\n";
    expect(check(text)).toEqual([expect.stringMatching(/^guide\.md:6: Argument of type 'string'/)]);
    const comment = `/**\n * @example\n * \`\`\`ts\n * import { ad } from 'tracegrad';\n * \`\`\`\n */`;
    expect(check(comment, true)).toEqual([expect.stringMatching(/^guide\.md:4: .*no exported member.* 'ad'/)]);
  });

  test('takes every block as a module, with await, and only ts', () => {
    const block =
      "```ts\nimport { array } from 'tracegrad';\nimport { createBackend } from 'tracegrad/node';\nconst x = await array([1]);\n```\n";
    expect(check(`${block}${block}\`\`\`sh\nnpm test\n\`\`\`\n`)).toEqual([]);
    expect(() => check('```ts\nlet x;\n')).toThrow('guide.md:1: a code block without an end');
  });

  test('lets blocks of a file import each other by name', () => {
    const one = '```ts\n// one.ts\nexport const one = 1;\n```\n';
    const two = "```ts\nimport { one } from './one.js';\nconst two: string = one;\n```\n";
    expect(check(one + two)).toEqual([expect.stringMatching(/^guide\.md:7: Type 'number' is not assignable/)]);
    expect(check(two)).toEqual([expect.stringMatching(/^guide\.md:2: Cannot find module '\.\/one\.js'/)]);
    expect(() => check(one + one)).toThrow('two blocks of one file have the same name');
  });
});
