package cribble;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Collection;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.document.BinaryDocValuesField;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.FieldType;
import org.apache.lucene.document.StringField;
import org.apache.lucene.index.IndexOptions;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.LogByteSizeMergePolicy;
import org.apache.lucene.index.SerialMergeScheduler;
import org.apache.lucene.store.Directory;
import org.apache.lucene.store.FSDirectory;
import org.apache.lucene.store.FilterDirectory;
import org.apache.lucene.store.NoLockFactory;
import org.apache.lucene.util.BytesRef;

/**
 * Writes one Lucene directory from packed batches of documents, with the fields of an Anserini index ("id" and "contents").
 *
 * <p>One thread adds the documents in the order in which they come, and only neighbouring segments are merged, so Lucene's
 * document number is the number of the document in the input. The thread is its own: the caller prepares the next batch
 * meanwhile.
 */
public final class BulkIndexer {
  private static final byte[] END = new byte[0];

  static {
    Quiet.please();
  }

  private final IndexWriter writer;
  private final FieldType contents = new FieldType();
  private final WeightedTerms weighted; // null: documents are texts
  private final BlockingQueue<byte[]> batches = new ArrayBlockingQueue<>(2);
  private final Thread thread = new Thread(this::work, "cribble-indexer");
  private volatile Throwable failure;

  /** Without an analyzer, documents are weighted terms. */
  public BulkIndexer(String directory, Analyzer analyzer) throws Exception {
    weighted = analyzer == null ? new WeightedTerms() : null;
    long heap = Runtime.getRuntime().maxMemory() >> 20;
    IndexWriterConfig config = weighted == null ? new IndexWriterConfig(analyzer) : new IndexWriterConfig();
    config.setOpenMode(IndexWriterConfig.OpenMode.CREATE);
    config.setRAMBufferSizeMB(Math.max(16, Math.min(512, heap / 4)));
    config.setUseCompoundFile(false);
    config.setMergePolicy(new LogByteSizeMergePolicy());
    config.setMergeScheduler(new SerialMergeScheduler());
    // The caller holds the lock of the whole index; Lucene's own file would only be left behind.
    writer = new IndexWriter(new Unsynced(FSDirectory.open(Path.of(directory), NoLockFactory.INSTANCE)), config);
    contents.setIndexOptions(IndexOptions.DOCS_AND_FREQS);
    contents.setTokenized(true);
    contents.setOmitNorms(weighted != null);
    contents.freeze();
    thread.setDaemon(true);
    thread.start();
  }

  /** A directory that leaves it to the caller to sync all files of the shard at its end, before the shard gets its name. */
  private static final class Unsynced extends FilterDirectory {
    Unsynced(Directory inner) {
      super(inner);
    }

    @Override
    public void sync(Collection<String> names) {}

    @Override
    public void syncMetaData() {}
  }

  /**
   * Documents as (id, contents) pairs; a string is a little-endian int32 length and its UTF-8 bytes. Weighted terms are as
   * {@link WeightedTerms#read} says.
   */
  public void add(byte[] batch) throws Exception {
    put(batch);
  }

  /** Merges to one segment, commits and closes. Returns the number of documents. */
  public int finish() throws Exception {
    put(END);
    thread.join();
    raise();
    writer.forceMerge(1);
    writer.commit();
    int documents = writer.getDocStats().maxDoc;
    writer.close();
    return documents;
  }

  /** Closes without a commit: what was written is of no use. */
  public void abort() throws Exception {
    failure = failure == null ? new IllegalStateException("aborted") : failure;
    batches.clear();
    batches.offer(END);
    thread.join();
    writer.rollback();
  }

  private void put(byte[] batch) throws Exception {
    raise();
    batches.put(batch);
    raise();
  }

  private void raise() throws Exception {
    if (failure != null) {
      throw new Exception(failure.getMessage() == null ? failure.toString() : failure.getMessage(), failure);
    }
  }

  private void work() {
    while (true) {
      try {
        byte[] batch = batches.take();
        if (batch == END) {
          return;
        }
        if (failure == null) {
          index(ByteBuffer.wrap(batch).order(ByteOrder.LITTLE_ENDIAN));
        }
      } catch (Throwable error) {
        failure = error; // later batches are taken and dropped, so that the caller never waits for ever
      }
    }
  }

  private void index(ByteBuffer batch) throws Exception {
    while (batch.hasRemaining()) {
      String id = BulkSearcher.string(batch);
      Document document = new Document();
      document.add(new StringField(BulkSearcher.ID, id, Field.Store.YES));
      document.add(new BinaryDocValuesField(BulkSearcher.ID, new BytesRef(id.getBytes(StandardCharsets.UTF_8))));
      if (weighted == null) {
        document.add(new Field(BulkSearcher.CONTENTS, BulkSearcher.string(batch), contents));
      } else {
        weighted.read(batch);
        document.add(new Field(BulkSearcher.CONTENTS, weighted, contents));
      }
      writer.addDocument(document);
    }
  }
}
