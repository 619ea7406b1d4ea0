// Writes tests/data/tokenizers/*.json: small tokenizers of our own, one per feature of tokenizer.json, with the ids and
// texts that Hugging Face tokenizers gives for them. Needs Node.js and `npm install tokenizers@0.23.2`; run with
//   NODE_PATH=.../node_modules node scripts/make_tokenizer_vectors.cjs tests/data/tokenizers
'use strict';
const fs = require('fs');
const path = require('path');
const {Tokenizer} = require('tokenizers');
const out = process.argv[2];

const PATTERN = {
  gpt2: "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  cl100k: "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  qwen2: "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  qwen35: "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  o200k: "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  tekken: "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  deepseek: ["\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"],
};

const TEXTS = [
  '', ' ', '  ', '\n', '\t', 'a', 'Hello, world!', ' Hello  World ', 'The quick brown fox jumps over the lazy dog.',
  "It's we'll I'VE they'Re don't can'T 'hello' 'sam' o'clock's", "it\u017F 'ſ 'S ſ's K's K'ſ", 'x=1;y=-2.5e10 // comment\n/* a */ f(x)[3]->b',
  '1 12 123 1234 12345 1234567 3.14159 1,000,000 ½ ² ³⁴ Ⅷ ٣٤٥ १२३ 𝟙𝟚', 'line one\nline two\r\nline three\r\r\n\n\n  indented\n\t\ttabs\n   ',
  'trailing spaces   ', '   leading', 'a  b   c    d', 'a \n b \n\n c', 'tab\tseparated\tvalues', 'naïve café ÀÉÎÕÜ ñ ß ŒœÆ', 'e\u0301 a\u0308 o\u0302\u0323 n\u0303 \u0301 x\u0301\u0302y',
  'ÉCOLE İstanbul ΣΑΣ ΟΔΟΣ ǅ ǆ Ǆ ﬁ ﬂ ﬃ', 'CamelCaseHTTPServer XMLHttpRequest iPhone McDonald ABCdefGHI', "Don'T DON'T Don'tX WE'LLgo It'Sm",
  'Привет, мир! Как дела?', 'Ελληνικά γλώσσα', 'مرحبا بالعالم ١٢٣', 'שָׁלוֹם עולם', 'नमस्ते दुनिया', 'สวัสดีชาวโลก ภาษาไทย', '你好，世界！今天天气很好。',
  'こんにちは世界。カタカナ ー ラーメン ｶﾀｶﾅ', '안녕하세요 세계 \u1112\u1161\u11AB', '漢字とkanaの混ざったtext 123番', '🙂 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️', 'a\u200bb\u200cc\u200dd\u2060e\ufefff',
  'nb\u00a0sp en\u2002em\u2003thin\u2009ideo\u3000narrow\u202f math\u205f ogham\u1680x', 'mvs\u180ea \u180e b nel\u0085x \u0085 ls\u2028x ps\u2029y', 'vt\u000bx ff\u000cy fs\u001cz us\u001f', 'nul\u0000soh\u0001bel\u0007esc\u001bdel\u007fx\u0080y\u009f',
  '“quotes” ‘single’ — dash – en … ellipsis « » ¿ ¡ § ¶', '$100 €5 £3 ¥2 +1 <b>bold</b> a^b `code` |x| ~y ©®™ ±×÷≤∑', '!@#$%^&*()_+-=[]{};:,.<>/?\\|', 'snake_case_name __init__ a_b-c.d', 'http://example.com/a/b?c=d&e=f#g user@host.org',
  '///\n//\n/', '...\n\n...', '!!!\r\n\r\n', ' \u00e9', 'x\u0301\u0327z', '①②③ ㈱ ㎏ ％ＡＢＣ１２３', '\u2581under\u2581score \u2581', 'don\u2019t it\u2019s', 'ÅÅ Å \u212B \u2126 \u1E9B\u0323',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'the theater thesis there then them', 'ababababab bababa', 'hello hello helloo hell he', 'low lower lowest new newer newest wide wider widest',
  '<s>hi</s> <unk> <pad>', '[CLS] a [SEP] [MASK] b', '<|im_start|>user\nhi<|im_end|>', 'w<mask>w <mask> <mask>, a <mask>\u00a0 b', 'New YorkNew York new york NEWYORK', '  <mask>  <mask>  x', '\ue000private\uf8ff', 'Ꭰꭰ ᏸ Ꙁꙁ ⅰⅠ ⓐⒶ', 'ﷺ ﷽ ½ Å ﬀ', 'A\u030A \u0041\u030A\u0300 \u1EA5 \u01D5', 'l\u00b7l \u0142 \u0131 i\u0307',
];

// A small corpus of our own for learning merges.
const CORPUS = ('the low lower lowest new newer newest wide wider widest the theater thesis there then them hello hell he ' +
  'low low low the the the in the end of the day she said that we will go there and then come home again ' +
  'ababab bababa running runner runs walked walking talked talking quick brown fox lazy dog café naïve 123 1234 ').split(' ').filter(x => x);

function learnBpe(words, count, spell) {
  const merges = [];
  let seqs = words.map(spell);
  for (let n = 0; n < count; ++n) {
    const freq = new Map();
    for (const s of seqs) for (let i = 0; i + 1 < s.length; ++i) { const k = s[i] + '\u0000' + s[i + 1]; freq.set(k, (freq.get(k) || 0) + 1); }
    let best = null;
    for (const [k, v] of freq) if (!best || v > best[1] || (v === best[1] && k < best[0])) best = [k, v];
    if (!best || best[1] < 2) break;
    const [a, b] = best[0].split('\u0000');
    merges.push([a, b]);
    seqs = seqs.map(s => { const r = []; for (let i = 0; i < s.length; ++i) if (i + 1 < s.length && s[i] === a && s[i + 1] === b) { r.push(a + b); ++i; } else r.push(s[i]); return r; });
  }
  return merges;
}

const alphabet = (() => { const m = []; let n = 256; for (let b = 0; b < 256; ++b) m.push(String.fromCodePoint((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174 ? b : n++)); return m; })();
const toBytes = s => [...Buffer.from(s, 'utf8')].map(b => alphabet[b]);
const hex = b => '<0x' + b.toString(16).toUpperCase().padStart(2, '0') + '>';
function vocabOf(lists) { const v = {}; let n = 0; for (const l of lists) for (const t of l) if (!(t in v)) v[t] = n++; return v; }
const special = (id, content, o = {}) => ({id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true, ...o});

function base(o) { return {version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...o}; }
function byteLevelModel(o = {}) {
  const merges = learnBpe(CORPUS.map(w => ' ' + w).concat(CORPUS), 120, toBytes);
  const vocab = vocabOf([alphabet, merges.map(m => m.join(''))]);
  return {type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges, ...o};
}
const CHARS = [...new Set([...CORPUS.join('') + '.,!?\'"-ABCDEHNTW0123456789éï▁'])];
function sentencePieceModel(o = {}, withBytes = true) {
  const merges = learnBpe(CORPUS.map(w => '▁' + w), 120, s => [...s]);
  const bytes = []; if (withBytes) for (let b = 0; b < 256; ++b) bytes.push(hex(b));
  const vocab = vocabOf([['<unk>', '<s>', '</s>'], bytes, merges.map(m => m.join('')), CHARS]);
  return {type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: true, byte_fallback: withBytes, ignore_merges: false, vocab, merges: merges.map(m => m.join(' ')), ...o};
}
const SP_TOKENS = [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')];
const template = (pre, post) => ({type: 'TemplateProcessing', single: [...pre.map(t => ({SpecialToken: {id: t[0], type_id: 0}})), {Sequence: {id: 'A', type_id: 0}}, ...post.map(t => ({SpecialToken: {id: t[0], type_id: 0}}))],
  pair: [{Sequence: {id: 'A', type_id: 0}}, {Sequence: {id: 'B', type_id: 1}}], special_tokens: Object.fromEntries([...pre, ...post].map(t => [t[0], {id: t[0], ids: [t[1]], tokens: [t[0]]}]))});
const SP_DECODER = {type: 'Sequence', decoders: [{type: 'Replace', pattern: {String: '▁'}, content: ' '}, {type: 'ByteFallback'}, {type: 'Fuse'}, {type: 'Strip', content: ' ', start: 1, stop: 0}]};
const split = (p, behavior = 'Isolated', invert = false) => ({type: 'Split', pattern: typeof p === 'string' ? {Regex: p} : p, behavior, invert});
const BL = {type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false};
const seq = (...p) => ({type: 'Sequence', pretokenizers: p});
const nseq = (...p) => ({type: 'Sequence', normalizers: p});

// SentencePiece precompiled_charsmap: u32 trie bytes, Darts-clone double array, NUL-terminated replacements.
function charsmap(map) {
  const root = {kids: new Map(), value: -1};
  let strings = Buffer.alloc(0);
  for (const [key, text] of Object.entries(map)) {
    let node = root;
    for (const b of Buffer.from(key)) { if (!node.kids.has(b)) node.kids.set(b, {kids: new Map(), value: -1}); node = node.kids.get(b); }
    node.value = strings.length;
    strings = Buffer.concat([strings, Buffer.from(text + '\0')]);
  }
  const units = [0], used = new Set([0]);
  (function place(node, at, label) {
    const labels = [...(node.value >= 0 ? [0] : []), ...node.kids.keys()].sort((a, b) => a - b);
    let b = 1;
    while (labels.some(l => used.has(b ^ l))) ++b;
    for (const l of labels) used.add(b ^ l);
    units[at] = (label | (node.value >= 0 ? 256 : 0) | ((at ^ b) << 10)) >>> 0;
    if (node.value >= 0) units[b] = (0x80000000 | node.value) >>> 0;
    for (const [l, kid] of node.kids) place(kid, b ^ l, l);
  })(root, 0, 0);
  const size = (Math.max(...used) | 255) + 1, blob = Buffer.alloc(4 + 4 * size);
  blob.writeUInt32LE(4 * size, 0);
  for (let i = 0; i < size; ++i) blob.writeUInt32LE(units[i] || 0, 4 + 4 * i);
  return Buffer.concat([blob, strings]).toString('base64');
}
const CHARSMAP = charsmap({'\u00a0': ' ', '\u3000': ' ', '\t': ' ', '\n': ' ', '\u200b': '', 'ﬁ': 'fi', 'ﬃ': 'ffi', '①': '1', 'Ａ': 'A', 'Ｂ': 'B', '％': '%', 'e\u0301': 'é', 'A\u030A': 'Å', 'Å': 'Å', 'th': 'TH', 'x': 'XX', 'xy': 'Y', '½': '1⁄2', '㈱': '(株)', '…': '...', '\r\n': '\n', '👍🏽': '+1', '가': '가'});

const files = {};
// Whole pipelines in the shape of published models.
const byteLevel = (pre, model = {}, o = {}) => base({pre_tokenizer: pre, decoder: {type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true}, model: byteLevelModel(model), ...o});
files.bpe_gpt2 = byteLevel({...BL, use_regex: true});
files.bpe_gpt2_prefix_space = byteLevel({...BL, use_regex: true, add_prefix_space: true});
files.bpe_llama3 = byteLevel(seq(split(PATTERN.cl100k), BL), {ignore_merges: true});
{
  const f = files.bpe_llama3, n = Object.keys(f.model.vocab).length;
  f.added_tokens = [special(n, '<|im_start|>'), special(n + 1, '<|im_end|>'), special(n + 2, '<mask>', {special: false, lstrip: true, rstrip: true})];
  f.post_processor = {type: 'Sequence', processors: [{type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true}, template([['<|im_start|>', n]], [])]};
}
files.bpe_qwen2 = byteLevel(seq(split(PATTERN.qwen2), BL), {}, {normalizer: {type: 'NFC'}});
files.bpe_qwen35 = byteLevel(seq(split(PATTERN.qwen35), BL), {}, {normalizer: {type: 'NFC'}});
files.bpe_o200k = byteLevel(seq(split(PATTERN.o200k), BL));
files.bpe_tekken = byteLevel(seq(split(PATTERN.tekken), BL), {ignore_merges: true});
files.bpe_deepseek = byteLevel(seq(...PATTERN.deepseek.map(p => split(p)), BL));
files.bpe_smollm = byteLevel(seq({type: 'Digits', individual_digits: true}, {...BL, use_regex: true}));
files.bpe_byte_level_not_last = byteLevel(seq({...BL, use_regex: true}, {type: 'FixedLength', length: 3}));
files.bpe_byte_level_normalizer = base({normalizer: {type: 'ByteLevel'}, decoder: {type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true}, model: byteLevelModel()});
files.spm_llama_legacy = base({added_tokens: SP_TOKENS, normalizer: nseq({type: 'Prepend', prepend: '▁'}, {type: 'Replace', pattern: {String: ' '}, content: '▁'}), post_processor: template([['<s>', 1]], []), decoder: SP_DECODER, model: sentencePieceModel()});
files.spm_llama_metaspace = base({added_tokens: SP_TOKENS, pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false}, post_processor: template([['<s>', 1]], [['</s>', 2]]), decoder: SP_DECODER, model: sentencePieceModel()});
const SP_SIZE = Object.keys(sentencePieceModel().vocab).length;
files.spm_gemma = base({added_tokens: [...SP_TOKENS, special(SP_SIZE, '<pad>', {special: false}), special(SP_SIZE + 1, '\n\n', {special: false})], normalizer: {type: 'Replace', pattern: {String: ' '}, content: '▁'}, pre_tokenizer: split({String: ' '}, 'MergedWithPrevious'),
  post_processor: template([['<s>', 1]], []), decoder: {type: 'Sequence', decoders: [{type: 'Replace', pattern: {String: '▁'}, content: ' '}, {type: 'ByteFallback'}, {type: 'Fuse'}]}, model: sentencePieceModel()});
files.spm_unk_not_fused = base({added_tokens: SP_TOKENS, pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}, decoder: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}, model: sentencePieceModel({fuse_unk: false}, false)});
files.spm_unk_fused = base({added_tokens: SP_TOKENS, pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true}, decoder: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true}, model: sentencePieceModel({}, false)});
files.spm_no_unk = base({pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: false}, model: sentencePieceModel({unk_token: null}, false)});
{
  const merges = learnBpe(CORPUS, 100, w => { const c = [...w]; c[c.length - 1] += '</w>'; return c; });
  const vocab = vocabOf([['<unk>'], CHARS, CHARS.map(c => c + '</w>'), merges.map(m => m.join(''))]);
  files.bpe_clip_suffix = base({normalizer: nseq({type: 'NFC'}, {type: 'Replace', pattern: {Regex: '\\s+'}, content: ' '}, {type: 'Lowercase'}), pre_tokenizer: {type: 'Whitespace'}, decoder: {type: 'BPEDecoder', suffix: '</w>'},
    post_processor: {type: 'RobertaProcessing', sep: ['<unk>', 0], cls: ['<unk>', 0], trim_offsets: true, add_prefix_space: false},
    model: {type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: '</w>', fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges}});
}
{
  const raw = learnBpe(CORPUS, 100, w => [...w].map((c, i) => i ? '@@' + c : c));
  // Joining drops the prefix of the right half; learn with joined spelling.
  const merges = []; let seqs = CORPUS.map(w => [...w].map((c, i) => i ? '@@' + c : c));
  for (let n = 0; n < 100; ++n) {
    const freq = new Map(); for (const s of seqs) for (let i = 0; i + 1 < s.length; ++i) { const k = s[i] + '\u0000' + s[i + 1]; freq.set(k, (freq.get(k) || 0) + 1); }
    let best = null; for (const [k, v] of freq) if (!best || v > best[1] || (v === best[1] && k < best[0])) best = [k, v];
    if (!best || best[1] < 2) break;
    const [a, b] = best[0].split('\u0000'); merges.push([a, b]); const j = a + b.slice(2);
    seqs = seqs.map(s => { const r = []; for (let i = 0; i < s.length; ++i) if (i + 1 < s.length && s[i] === a && s[i + 1] === b) { r.push(j); ++i; } else r.push(s[i]); return r; });
  }
  const vocab = vocabOf([['<unk>'], CHARS, CHARS.map(c => '@@' + c), merges.map(m => m[0] + m[1].slice(2))]);
  files.bpe_continuing_prefix = base({pre_tokenizer: {type: 'WhitespaceSplit'}, decoder: {type: 'WordPiece', prefix: '@@', cleanup: false},
    model: {type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: '@@', end_of_word_suffix: null, fuse_unk: true, byte_fallback: false, ignore_merges: false, vocab, merges}});
}
{
  const words = [...new Set(CORPUS)].concat(['[CLS]', '[SEP]', '[UNK]', '[MASK]', '[PAD]']);
  const subs = ['##er', '##est', '##ing', '##s', '##ed', '##re', '##n', '##ab', 'ab', 'b', 'new', 'york', '你', '好', '!', '.', ',', "'", 't', 'don', 'caf', '##e', 'nai', '##ve', '1', '##2', '##3', '12'];
  const vocab = vocabOf([['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'], words, subs, [...'abcdefghijklmnopqrstuvwxyz'], [...'abcdefghijklmnopqrstuvwxyz'].map(c => '##' + c)]);
  const bert = (norm, o = {}) => base({added_tokens: ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'].map((t, i) => special(i, t)), normalizer: {type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true, ...norm}, pre_tokenizer: {type: 'BertPreTokenizer'},
    post_processor: {type: 'BertProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2]}, decoder: {type: 'WordPiece', prefix: '##', cleanup: true}, model: {type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 20, vocab}, ...o});
  files.wordpiece_uncased = bert({});
  files.wordpiece_cased = bert({lowercase: false});
  files.wordpiece_plain = bert({clean_text: false, handle_chinese_chars: false, strip_accents: false});
}
{
  const merges = learnBpe(CORPUS.map(w => '▁' + w), 120, s => [...s]);
  const pieces = [...new Set([...merges.map(m => m.join('')), ...CHARS])];
  const vocab = [['<unk>', 0], ['<s>', 0], ['</s>', 0], ...pieces.map((p, i) => [p, -2 - i * 0.0625 - ([...p].length === 1 ? 4 : 0)])];
  const vocabBytes = [...vocab]; for (let b = 0; b < 256; ++b) vocabBytes.push([hex(b), -20]);
  const uni = (v, o = {}, m = {}) => base({added_tokens: SP_TOKENS, pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}, post_processor: template([], [['</s>', 2]]), decoder: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}, model: {type: 'Unigram', unk_id: 0, vocab: v, byte_fallback: false, ...m}, ...o});
  files.unigram_t5 = uni(vocab, {normalizer: nseq({type: 'Nmt'}, {type: 'NFKC'}, {type: 'Replace', pattern: {Regex: ' {2,}'}, content: ' '})});
  files.unigram_precompiled = uni(vocab, {normalizer: nseq({type: 'Precompiled', precompiled_charsmap: CHARSMAP}, {type: 'Strip', strip_left: false, strip_right: true}, {type: 'Replace', pattern: {Regex: ' {2,}'}, content: '▁'})});
  files.unigram_whole = uni(vocab, {pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false}});
  files.unigram_byte_fallback = uni(vocabBytes, {decoder: SP_DECODER}, {byte_fallback: true});
}

// One feature at a time: a WordLevel vocabulary of exactly the pieces that the reference makes of TEXTS.
const steps = {
  norm_nfc: {normalizer: {type: 'NFC'}}, norm_nfd: {normalizer: {type: 'NFD'}}, norm_nfkc: {normalizer: {type: 'NFKC'}}, norm_nfkd: {normalizer: {type: 'NFKD'}},
  norm_lowercase: {normalizer: {type: 'Lowercase'}}, norm_strip_accents: {normalizer: nseq({type: 'NFD'}, {type: 'StripAccents'})}, norm_strip: {normalizer: {type: 'Strip', strip_left: true, strip_right: true}}, norm_strip_right: {normalizer: {type: 'Strip', strip_left: false, strip_right: true}},
  norm_prepend: {normalizer: {type: 'Prepend', prepend: '<>'}}, norm_replace_string: {normalizer: {type: 'Replace', pattern: {String: 'the'}, content: 'THE!'}}, norm_replace_regex: {normalizer: {type: 'Replace', pattern: {Regex: '(\\p{Lu})\\p{Ll}*'}, content: '$1'}},
  norm_bert: {normalizer: {type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true}}, norm_nmt: {normalizer: {type: 'Nmt'}}, norm_byte_level: {normalizer: {type: 'ByteLevel'}}, norm_precompiled: {normalizer: {type: 'Precompiled', precompiled_charsmap: CHARSMAP}},
  pre_byte_level: {pre_tokenizer: {...BL, use_regex: true, add_prefix_space: true}}, pre_metaspace_always: {pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}}, pre_metaspace_never: {pre_tokenizer: {type: 'Metaspace', replacement: '_', prepend_scheme: 'never', split: true}},
  pre_digits: {pre_tokenizer: {type: 'Digits', individual_digits: false}}, pre_digits_individual: {pre_tokenizer: {type: 'Digits', individual_digits: true}}, pre_punctuation: {pre_tokenizer: {type: 'Punctuation', behavior: 'Isolated'}}, pre_punctuation_contiguous: {pre_tokenizer: {type: 'Punctuation', behavior: 'Contiguous'}},
  pre_whitespace: {pre_tokenizer: {type: 'Whitespace'}}, pre_whitespace_split: {pre_tokenizer: {type: 'WhitespaceSplit'}}, pre_bert: {pre_tokenizer: {type: 'BertPreTokenizer'}}, pre_unicode_scripts: {pre_tokenizer: {type: 'UnicodeScripts'}}, pre_fixed_length: {pre_tokenizer: {type: 'FixedLength', length: 4}}, pre_char_delimiter: {pre_tokenizer: {type: 'CharDelimiterSplit', delimiter: '/'}},
  pre_gpt2: {pre_tokenizer: split(PATTERN.gpt2)}, pre_cl100k: {pre_tokenizer: split(PATTERN.cl100k)}, pre_qwen2: {pre_tokenizer: split(PATTERN.qwen2)}, pre_qwen35: {pre_tokenizer: split(PATTERN.qwen35)}, pre_o200k: {pre_tokenizer: split(PATTERN.o200k)}, pre_tekken: {pre_tokenizer: split(PATTERN.tekken, 'Removed', true)}, pre_deepseek: {pre_tokenizer: seq(...PATTERN.deepseek.map(p => split(p)))},
  pre_regex_classes: {pre_tokenizer: split('\\w+|\\h|[^\\w\\s]+|\\S|\\s')}, pre_regex_not_word: {pre_tokenizer: split('\\W+')}, pre_regex_nested: {pre_tokenizer: split(' ?[^(\\s|[.,!?…。，、।۔،])]+')}, pre_regex_possessive: {pre_tokenizer: split("[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")}, pre_regex_lines: {pre_tokenizer: split('^\\s*\\w|\\w$', 'Isolated')}, pre_regex_boundary: {pre_tokenizer: split('\\b\\p{L}', 'MergedWithNext')}, pre_regex_names: {pre_tokenizer: split('\\p{Letter}+|\\p{^L}\\p{Han}?|\\p{Nd}', 'Isolated')},
};
for (const [kind, pattern] of [['string', {String: 'th'}], ['regex', '[aeiou]+|\\s']])
  for (const behavior of ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'])
    for (const invert of [false, true]) steps[`split_${kind}_${behavior.toLowerCase()}${invert ? '_inverted' : ''}`] = {pre_tokenizer: split(pattern, behavior, invert)};
for (const [name, o] of Object.entries(steps)) {
  const probe = Tokenizer.fromString(JSON.stringify(base({...o, model: {type: 'WordLevel', vocab: {'<unk>': 0}, unk_token: '<unk>'}})));
  const pieces = new Set();
  for (const t of TEXTS) {
    const n = probe.getNormalizer() ? probe.getNormalizer().normalizeString(t) : t;
    if (!n) continue;
    if (probe.getPreTokenizer()) for (const [p] of probe.getPreTokenizer().preTokenizeString(n)) pieces.add(p);
    else pieces.add(n);
  }
  files[name] = base({...o, model: {type: 'WordLevel', vocab: vocabOf([['<unk>'], [...pieces]]), unk_token: '<unk>'}});
}
{
  // Added tokens of every kind over a plain model.
  const model = () => files.pre_whitespace.model;
  const n = Object.keys(model().vocab).length;
  files.added_tokens = base({added_tokens: [special(n, '<mask>', {lstrip: true}), special(n + 1, '<s>', {rstrip: true}), special(n + 2, '</s>'), special(n + 3, 'New York', {special: false, single_word: true}), special(model().vocab.the, 'the', {special: false, single_word: true, normalized: true}), special(n + 4, 'Hello Hello', {special: false, normalized: true}), special(model().vocab.hello, 'hello', {special: false, normalized: true, lstrip: true, rstrip: true})],
    normalizer: {type: 'Lowercase'}, pre_tokenizer: {type: 'Whitespace'}, model: {...model()}});
}
// Decoders, on a vocabulary that shows their rules.
{
  const tokens = ['a', 'b', '▁the', '▁', '▁▁x', ' ', '  y', 'x▁y', '##ing', '##', '</w>', 'end</w>', '</w></w>', '<0x0A>', '<0xC3>', '<0xA9>', '<0xF0>', '<0x9F>', '<0x99>', '<0x82>', '<0xFF>', 'é', '<pad>', '|', '.', ',', '!', '?', "n't", "'s", "'", 'do not', ' do not', ' .', 'Ġthe', 'Ã', '©', 'ð', 'Ł', 'Ļ', 'Ĥ', 'Ċ', 'not alphabet ✓', 'ab', 'ba', 'aba', 'hello', ' hello ', '   '];
  const vocab = {type: 'WordLevel', vocab: vocabOf([['<unk>'], tokens]), unk_token: '<unk>'};
  const decoders = {
    none: null, byte_level: {type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true}, byte_fallback: {type: 'ByteFallback'}, metaspace: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}, metaspace_never: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true}, fuse: {type: 'Fuse'},
    strip: {type: 'Strip', content: 't', start: 1, stop: 1}, strip_fused: {type: 'Sequence', decoders: [{type: 'Fuse'}, {type: 'Strip', content: ' ', start: 2, stop: 0}]}, replace: {type: 'Replace', pattern: {String: 'ab'}, content: 'ba'}, replace_fused: {type: 'Sequence', decoders: [{type: 'Fuse'}, {type: 'Replace', pattern: {String: 'aba'}, content: '[x]'}]}, replace_regex_fused: {type: 'Sequence', decoders: [{type: 'Fuse'}, {type: 'Replace', pattern: {Regex: 'a+b'}, content: 'C'}]},
    bpe: {type: 'BPEDecoder', suffix: '</w>'}, wordpiece: {type: 'WordPiece', prefix: '##', cleanup: true}, wordpiece_plain: {type: 'WordPiece', prefix: '##', cleanup: false}, ctc: {type: 'CTC', pad_token: '<pad>', word_delimiter_token: '|', cleanup: true}, ctc_plain: {type: 'CTC', pad_token: '<pad>', word_delimiter_token: '|', cleanup: false}, llama: SP_DECODER,
  };
  for (const [name, decoder] of Object.entries(decoders)) files['decode_' + name] = base({decoder, model: vocab, added_tokens: [special(0, '<unk>')]});
}

let seed = 12345;
const rand = n => { seed = (Math.imul(seed, 1103515245) + 12345) >>> 0; return (seed >>> 8) % n; };
(async () => {
  for (const [name, json] of Object.entries(files)) {
    const t = Tokenizer.fromString(JSON.stringify(json));
    const size = Object.values(t.getVocab(true)).reduce((a, b) => Math.max(a, b), 0) + 1;
    const cases = [];
    for (const text of TEXTS) {
      const plain = (await t.encode(text, null, {addSpecialTokens: false})).getIds();
      const full = (await t.encode(text, null, {addSpecialTokens: true})).getIds();
      const c = {ids: plain};
      if (JSON.stringify(full) !== JSON.stringify(plain)) c.ids_special = full;
      if (json.decoder && !name.startsWith('decode_')) c.decoded = await t.decode(plain, true);
      cases.push(c);
    }
    const decode = [];
    for (let i = 0; i < (json.decoder || name.startsWith('decode_') ? 60 : 0); ++i) {
      const ids = []; for (let n = rand(12); n > 0; --n) ids.push(rand(size));
      const known = ids.filter(id => t.idToToken(id) !== null);
      if (known.length) decode.push({ids: known, text: await t.decode(known, true), text_special: await t.decode(known, false)});
    }
    const encodes = !name.startsWith('decode_');
    fs.writeFileSync(path.join(out, name + '.json'), JSON.stringify({tokenizer: json, cases: encodes ? cases : [], decode}) + '\n');
  }
  fs.writeFileSync(path.join(out, 'texts.json'), JSON.stringify(TEXTS, null, 1) + '\n');
})();
