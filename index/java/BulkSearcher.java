package cribble;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.index.BinaryDocValues;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.MultiDocValues;
import org.apache.lucene.index.MultiReader;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.search.similarities.BM25Similarity;
import org.apache.lucene.store.FSDirectory;

/**
 * Searches several Lucene directories as one index, many queries a call, with results in one packed array.
 *
 * <p>Crossing from Java to Python costs about 10 microseconds an object; Lucene's own search for 1,000 hits takes 500. So
 * queries go in as one array of bytes and hits come out as one, without ids: a document's number is its place in the input.
 */
public final class BulkSearcher {
  static final String ID = "id";
  static final String CONTENTS = "contents";

  static {
    Quiet.please();
  }

  private final MultiReader reader;
  private final Analyzer analyzer;
  private final IdOrder order;

  /** `ranks`: for each document the place of its id in ascending order, int32; they decide ties. */
  public BulkSearcher(byte[] directories, Analyzer analyzer, byte[] ranks) throws Exception {
    List<IndexReader> readers = new ArrayList<>();
    for (String directory : strings(directories)) {
      readers.add(DirectoryReader.open(FSDirectory.open(Path.of(directory))));
    }
    this.reader = new MultiReader(readers.toArray(new IndexReader[0]), true);
    this.analyzer = analyzer;
    this.order = IdOrder.of(ranks);
    if (ranks.length != 4 * reader.maxDoc()) {
      throw new IllegalArgumentException(reader.maxDoc() + " documents, but ranks of " + ranks.length / 4);
    }
    // Reasoning queries of BRIGHT have thousands of distinct terms; Lucene's limit of 1,024 is for wildcards.
    IndexSearcher.setMaxClauseCount(Integer.MAX_VALUE);
  }

  public int size() {
    return reader.maxDoc();
  }

  public void close() throws Exception {
    reader.close();
  }

  /** The ids in the order of the document numbers, packed as (int32 length, UTF-8 bytes). Starts at `from`, at most `count`. */
  public byte[] ids(int from, int count) throws Exception {
    BinaryDocValues values = MultiDocValues.getBinaryValues(reader, ID);
    int end = Math.min(size(), from + count);
    ByteBuffer out = buffer(1 << 16);
    for (int doc = from; doc < end; doc++) {
      if (!values.advanceExact(doc)) {
        throw new IllegalStateException("document " + doc + " has no id");
      }
      var id = values.binaryValue();
      if (out.remaining() < id.length + 4) {
        out = buffer(Math.max(out.capacity() * 2, out.capacity() + id.length + 4)).put(out.flip());
      }
      out.putInt(id.length).put(id.bytes, id.offset, id.length);
    }
    return bytes(out);
  }

  /** The terms of each text after analysis: per text an int32 count and that many strings. */
  public byte[] analyze(byte[] texts) throws Exception {
    ByteBuffer out = buffer(1 << 16);
    for (String text : strings(texts)) {
      List<byte[]> terms = new ArrayList<>();
      int length = 4;
      for (String term : terms(text)) {
        byte[] encoded = term.getBytes(StandardCharsets.UTF_8);
        terms.add(encoded);
        length += 4 + encoded.length;
      }
      if (out.remaining() < length) {
        out = buffer(Math.max(out.capacity() * 2, out.capacity() + length)).put(out.flip());
      }
      out.putInt(terms.size());
      for (byte[] term : terms) {
        out.putInt(term.length).put(term);
      }
    }
    return bytes(out);
  }

  /**
   * Bag-of-words BM25. `allowed` is empty (all documents) or a bit per document, lowest first. Equal scores are ordered by id,
   * descending unless `ascending`. Returns {@link Hits#pack}.
   */
  public byte[] search(
      byte[] queries, int k, float k1, float b, boolean weighted, byte[] allowed, boolean ascending, int threads)
      throws Exception {
    List<String> texts = strings(queries);
    IndexSearcher searcher = searcher(k1, b);
    TopHits top = new TopHits(searcher, k, AllowedDocuments.of(reader, allowed), ascending ? order.reversed() : order);
    return Hits.pack(parallel(texts.size(), threads, i -> top.search(query(terms(texts.get(i)), weighted, k1, b))));
  }

  /**
   * BM25 with the query expanded by RM3. `feedback` holds, per query, an int32 count and pairs of int32 (number in
   * `documents`) and float32 (its first-pass score); `documents` are texts.
   */
  public byte[] searchRm3(
      byte[] queries, byte[] documents, byte[] feedback, int terms, float weight, boolean ascii,
      int k, float k1, float b, byte[] allowed, int threads) throws Exception {
    List<String> texts = strings(queries);
    IndexSearcher searcher = searcher(k1, b);
    TopHits top = new TopHits(searcher, k, AllowedDocuments.of(reader, allowed), order);
    Rm3 rm3 = new Rm3(reader, terms, weight, ascii);
    List<String> sources = strings(documents);
    List<Map<String, Float>> vectors = new ArrayList<>();
    for (int i = 0; i < sources.size(); i++) {
      vectors.add(null);
    }
    parallel(sources.size(), threads, i -> {
      vectors.set(i, rm3.vector(terms(sources.get(i))));
      return null;
    });
    List<Rm3.Feedback> perQuery = Rm3.Feedback.unpack(ByteBuffer.wrap(feedback).order(ByteOrder.LITTLE_ENDIAN), vectors);
    return Hits.pack(parallel(texts.size(), threads,
        i -> top.search(query(rm3.expand(terms(texts.get(i)), perQuery.get(i))))));
  }

  /** Sums of products with weighted terms: per query a count, as many ids (int32), as many weights (float32). */
  public byte[] searchImpacts(byte[] queries, int k, byte[] allowed, int threads) throws Exception {
    List<Query> read = new ArrayList<>();
    ByteBuffer in = ByteBuffer.wrap(queries).order(ByteOrder.LITTLE_ENDIAN);
    while (in.hasRemaining()) {
      int[] ids = WeightedTerms.ints(in, in.getInt());
      Map<String, Float> weights = new HashMap<>();
      for (int id : ids) {
        weights.put(Integer.toString(id), in.getFloat());
      }
      read.add(query(weights));
    }
    IndexSearcher searcher = new IndexSearcher(reader);
    searcher.setSimilarity(new ImpactSimilarity());
    TopHits top = new TopHits(searcher, k, AllowedDocuments.of(reader, allowed), order);
    return Hits.pack(parallel(read.size(), threads, i -> top.search(read.get(i))));
  }

  private IndexSearcher searcher(float k1, float b) {
    IndexSearcher searcher = new IndexSearcher(reader);
    searcher.setSimilarity(new BM25Similarity(k1, b));
    return searcher;
  }

  private List<String> terms(String text) throws Exception {
    return terms(analyzer, text);
  }

  static List<String> terms(Analyzer analyzer, String text) throws Exception {
    List<String> terms = new ArrayList<>();
    try (TokenStream stream = analyzer.tokenStream(CONTENTS, text)) {
      CharTermAttribute term = stream.addAttribute(CharTermAttribute.class);
      stream.reset();
      while (stream.incrementToken()) {
        if (term.length() > 0) {
          terms.add(term.toString());
        }
      }
      stream.end();
    }
    return terms;
  }

  /** Each distinct term with its count in the query, or with its BM25 weight as if the query were a document. */
  private Query query(List<String> terms, boolean weighted, float k1, float b) throws Exception {
    Map<String, Float> weights = new HashMap<>();
    for (String term : terms) {
      weights.merge(term, 1f, Float::sum);
    }
    if (weighted) {
      int documents = reader.getDocCount(CONTENTS);
      float average = documents == 0 ? 1 : reader.getSumTotalTermFreq(CONTENTS) / (float) documents;
      float norm = k1 * (1 - b + b * (terms.size() / average)); // in float32 throughout, to rank as Anserini does
      for (Map.Entry<String, Float> entry : weights.entrySet()) {
        long found = reader.docFreq(new Term(CONTENTS, entry.getKey()));
        float idf = (float) Math.log(1 + (documents - found + 0.5) / (found + 0.5));
        entry.setValue(idf * (entry.getValue() / (entry.getValue() + norm)));
      }
    }
    return query(weights);
  }

  private static Query query(Map<String, Float> weights) {
    BooleanQuery.Builder builder = new BooleanQuery.Builder();
    for (Map.Entry<String, Float> entry : weights.entrySet()) {
      TermQuery term = new TermQuery(new Term(CONTENTS, entry.getKey()));
      float weight = entry.getValue();
      builder.add(weight == 1f ? term : new BoostQuery(term, weight), BooleanClause.Occur.SHOULD);
    }
    return builder.build();
  }

  interface Task {
    Hits run(int i) throws Exception;
  }

  private static Hits[] parallel(int tasks, int threads, Task task) throws Exception {
    Hits[] results = new Hits[tasks];
    AtomicInteger next = new AtomicInteger();
    Throwable[] failure = new Throwable[1];
    Runnable worker = () -> {
      try {
        for (int i = next.getAndIncrement(); i < tasks && failure[0] == null; i = next.getAndIncrement()) {
          results[i] = task.run(i);
        }
      } catch (Throwable error) {
        failure[0] = error;
      }
    };
    List<Thread> others = new ArrayList<>();
    for (int i = 1; i < Math.min(threads, tasks); i++) {
      Thread other = new Thread(worker, "cribble-searcher-" + i);
      other.setDaemon(true);
      other.start();
      others.add(other);
    }
    worker.run();
    for (Thread other : others) {
      other.join();
    }
    if (failure[0] != null) {
      throw new Exception(failure[0].toString(), failure[0]);
    }
    return results;
  }

  static String string(ByteBuffer packed) {
    int length = packed.getInt();
    String text = new String(packed.array(), packed.arrayOffset() + packed.position(), length, StandardCharsets.UTF_8);
    packed.position(packed.position() + length);
    return text;
  }

  static List<String> strings(byte[] packed) {
    ByteBuffer in = ByteBuffer.wrap(packed).order(ByteOrder.LITTLE_ENDIAN);
    List<String> texts = new ArrayList<>();
    while (in.hasRemaining()) {
      texts.add(string(in));
    }
    return texts;
  }

  static ByteBuffer buffer(int capacity) {
    return ByteBuffer.allocate(capacity).order(ByteOrder.LITTLE_ENDIAN);
  }

  static byte[] bytes(ByteBuffer out) {
    byte[] result = new byte[out.position()];
    out.flip().get(result);
    return result;
  }
}
