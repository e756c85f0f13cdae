// SPDX-License-Identifier: Apache-2.0

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client's producer and a group of two, while somebody else lets brokers fail: numbered records per key until a
 * file appears; then everything acknowledged has to be there, once, where it was acknowledged, each key in order, and the
 * group has to have missed nothing.
 * Arguments: the bootstrap addresses, a topic, the file. Prints what it saw.
 */
public final class FailoverChecks {
    private static final int KEYS = 17;
    private static final long DEADLINE_MS = 60_000;
    private final String bootstrap;
    private final String topic;
    private final Path stopFile;
    /** Of the records whose sending has ended: place by number, or what it failed of. */
    private final Map<Integer, Place> acknowledged = new HashMap<>();
    private final List<String> failed = new ArrayList<>();
    private final Map<Integer, Long> lastAcknowledgement = new HashMap<>();
    private long longestGapMs;
    /** The offset after the highest that the group has read, by partition. */
    private final Map<Integer, Long> next = new HashMap<>();
    private final AtomicBoolean stopGroup = new AtomicBoolean();
    private final AtomicReference<Throwable> complaint = new AtomicReference<>();
    private long groupRecords;
    private long groupCommits;

    private record Place(int partition, long offset) {}

    private FailoverChecks(String bootstrap, String topic, Path stopFile) {
        this.bootstrap = bootstrap;
        this.topic = topic;
        this.stopFile = stopFile;
    }

    public static void main(String[] args) throws Exception {
        new FailoverChecks(args[0], args[1], Path.of(args[2])).run();
    }

    private void run() throws Exception {
        List<Thread> members = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            Thread member = new Thread(this::readAsMember, "member-" + i);
            member.start();
            members.add(member);
        }
        try {
            int sent = produce();
            synchronized (this) {
                require(failed.isEmpty(), failed.size() + " records failed for good, first " + failed);
                require(acknowledged.size() == sent, acknowledged.size() + " of " + sent + " records acknowledged");
            }
            Map<Integer, Long> ends = checkRecords(sent);
            long deadline = System.currentTimeMillis() + DEADLINE_MS;
            while (!hasReadTo(ends)) {
                require(complaint.get() == null, "a member of the group: " + complaint.get());
                require(System.currentTimeMillis() < deadline, "the group is at " + next + ", the ends are " + ends);
                Thread.sleep(20);
            }
            System.out.println("Java: " + sent + " records acknowledged and there once, longest gap " + longestGapMs
                    + " ms; the group read " + groupRecords + " and committed " + groupCommits + " times");
        } finally {
            stopGroup.set(true);
            for (Thread member : members) {
                member.join(DEADLINE_MS);
            }
        }
        require(complaint.get() == null, "a member of the group: " + complaint.get());
    }

    private int produce() throws Exception {
        int number = 0;
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("acks", "all");
        properties.put("enable.idempotence", true);
        properties.put("linger.ms", 2);
        properties.put("reconnect.backoff.ms", 10);
        properties.put("reconnect.backoff.max.ms", 100);
        try (var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            while (!Files.exists(stopFile)) {
                for (int i = 0; i < 10; i++) {
                    int own = number++;
                    producer.send(
                            new ProducerRecord<>(topic, bytes("key-" + own % KEYS), bytes(own + " " + "x".repeat(own % 600))),
                            (metadata, error) -> {
                                synchronized (this) {
                                    if (error != null) {
                                        failed.add(own + ": " + error);
                                        return;
                                    }
                                    acknowledged.put(own, new Place(metadata.partition(), metadata.offset()));
                                    long now = System.nanoTime();
                                    Long before = lastAcknowledgement.put(metadata.partition(), now);
                                    if (before != null) {
                                        longestGapMs = Math.max(longestGapMs, (now - before) / 1_000_000);
                                    }
                                }
                            });
                }
                Thread.sleep(10);
            }
            producer.flush();
        }
        return number;
    }

    private void readAsMember() {
        Map<String, Object> settings = Map.of("session.timeout.ms", 10_000, "heartbeat.interval.ms", 500);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("java-movers", settings)) {
            Map<TopicPartition, OffsetAndMetadata> own = new HashMap<>();
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    partitions.forEach(own::remove);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}
            });
            while (!stopGroup.get()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    synchronized (this) {
                        long expected = next.getOrDefault(record.partition(), 0L);
                        require(record.offset() <= expected, "partition " + record.partition() + ": offset "
                                + record.offset() + " came when the group was at " + expected);
                        next.put(record.partition(), Math.max(expected, record.offset() + 1));
                        groupRecords++;
                    }
                    TopicPartition partition = new TopicPartition(topic, record.partition());
                    own.put(partition, new OffsetAndMetadata(record.offset() + 1));
                }
                if (own.isEmpty()) {
                    continue;
                }
                try {
                    consumer.commitSync(new HashMap<>(own));
                    synchronized (this) {
                        groupCommits++;
                    }
                } catch (KafkaException e) {
                    // The coordinator is away or the group rebalances: the next poll finds out, the next commit has it all.
                }
            }
        } catch (Throwable error) {
            complaint.compareAndSet(null, error);
        }
    }

    private synchronized boolean hasReadTo(Map<Integer, Long> ends) {
        return ends.entrySet().stream().allMatch(end -> next.getOrDefault(end.getKey(), 0L) >= end.getValue());
    }

    /** Reads everything; gives back the end of each partition. */
    private Map<Integer, Long> checkRecords(int sent) {
        Map<Integer, Long> ends = new HashMap<>();
        Map<Integer, Place> places = new HashMap<>();
        Map<String, Integer> lastOfKey = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("java-checker", Map.of())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map(info -> new TopicPartition(topic, info.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            consumer.endOffsets(partitions).forEach((partition, end) -> ends.put(partition.partition(), end));
            long total = ends.values().stream().mapToLong(Long::longValue).sum();
            long read = 0;
            long deadline = System.currentTimeMillis() + DEADLINE_MS;
            while (read < total) {
                require(System.currentTimeMillis() < deadline, read + " of " + total + " records read within a minute");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    read++;
                    String value = new String(record.value(), StandardCharsets.UTF_8);
                    int number = Integer.parseInt(value.substring(0, value.indexOf(' ')));
                    String key = new String(record.key(), StandardCharsets.UTF_8);
                    require(value.length() == (number + " ").length() + number % 600, "the value of " + number + " changed");
                    require(key.equals("key-" + number % KEYS), "the key of " + number + " changed");
                    Place place = new Place(record.partition(), record.offset());
                    Place before = places.put(number, place);
                    require(before == null, "record " + number + " is there twice: at " + before + " and " + place);
                    Integer last = lastOfKey.put(key, number);
                    require(last == null || last < number, "record " + number + " came after " + last);
                }
            }
        }
        synchronized (this) {
            acknowledged.forEach((number, place) -> require(place.equals(places.get(number)),
                    "record " + number + " was acknowledged at " + place + "; it is at " + places.get(number)));
        }
        require(places.size() == sent, sent + " sent, " + places.size() + " there");
        return ends;
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, Object> settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", false);
        properties.put("reconnect.backoff.ms", 10);
        properties.put("reconnect.backoff.max.ms", 100);
        properties.putAll(settings);
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
