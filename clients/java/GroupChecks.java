// SPDX-License-Identifier: Apache-2.0

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What the console tools cannot show, with the Java client itself: nulls, headers and time stamps kept; look-up by
 * time; a group that two members share, lose and take over; commits that the next member goes on from.
 * Arguments: the bootstrap address. Prints a line per check; the first one that fails is the exit status.
 */
public final class GroupChecks {
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long DEADLINE_MS = 60_000;
    private final String bootstrap;

    private GroupChecks(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] args) throws Exception {
        GroupChecks checks = new GroupChecks(args[0]);
        checks.nullsHeadersAndTimes();
        checks.twoMembersShareAGroup();
        checks.commitsAreGoneOnFrom();
    }

    private void nullsHeadersAndTimes() throws Exception {
        String topic = create("java-details", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        long start = System.currentTimeMillis() - 600_000;
        byte[] large = new byte[150_000];
        new java.util.Random(5).nextBytes(large);
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        sent.add(new ProducerRecord<>(topic, 0, start, null, bytes("no key")));
        sent.add(new ProducerRecord<>(topic, 0, start + 1_000, bytes("no value"), (byte[]) null));
        sent.add(new ProducerRecord<>(topic, 0, start + 2_000, (byte[]) null, (byte[]) null));
        sent.add(new ProducerRecord<>(topic, 0, start + 3_000, new byte[0], new byte[0]));
        ProducerRecord<byte[], byte[]> headed = new ProducerRecord<>(topic, 0, start + 4_000, bytes("headers"), large);
        headed.headers().add("a", bytes("1")).add("a", bytes("2")).add("null", null).add("", new byte[0]);
        sent.add(headed);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (KafkaProducer<byte[], byte[]> producer = producer(Map.of("compression.type", codec, "linger.ms", 20))) {
                List<Future<RecordMetadata>> acknowledged = new ArrayList<>();
                for (ProducerRecord<byte[], byte[]> record : sent) {
                    acknowledged.add(producer.send(record));
                }
                long before = -1;
                for (Future<RecordMetadata> one : acknowledged) {
                    RecordMetadata metadata = one.get();
                    require(metadata.offset() > before, "offsets rise, not " + before + " then " + metadata.offset());
                    before = metadata.offset();
                }
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("details", Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
            long deadline = deadline();
            while (read.size() < 5 * sent.size()) {
                require(System.currentTimeMillis() < deadline, read.size() + " of " + 5 * sent.size() + " records after a minute");
                consumer.poll(POLL).forEach(read::add);
            }
            require(read.size() == 5 * sent.size(), read.size() + " records instead of " + 5 * sent.size());
            for (int i = 0; i < read.size(); i++) {
                ProducerRecord<byte[], byte[]> expected = sent.get(i % sent.size());
                ConsumerRecord<byte[], byte[]> actual = read.get(i);
                require(actual.offset() == i, "offset " + actual.offset() + " instead of " + i);
                require(actual.timestamp() == expected.timestamp(), "time stamp of record " + i);
                require(Arrays.equals(actual.key(), expected.key()), "key of record " + i);
                require(Arrays.equals(actual.value(), expected.value()), "value of record " + i);
                require(actual.headers().equals(expected.headers()), "headers of record " + i + ": " + actual.headers());
            }
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(Map.of(partition, start + 2_500));
            OffsetAndTimestamp third = found.get(partition);
            require(third != null && third.offset() == 3 && third.timestamp() == start + 3_000, "look-up by time gave " + third);
            Map<TopicPartition, OffsetAndTimestamp> none = consumer.offsetsForTimes(Map.of(partition, start + 60_000));
            require(none.get(partition) == null, "look-up after the last record gave " + none);
            require(consumer.endOffsets(List.of(partition)).get(partition) == read.size(), "end offset");
            require(consumer.beginningOffsets(List.of(partition)).get(partition) == 0, "beginning offset");
        }
        System.out.println("nulls, headers and time stamps: kept with every codec");
    }

    private static final class Member {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Set<TopicPartition> owned = new HashSet<>();
        final List<Long> read = new ArrayList<>();

        Member(KafkaConsumer<byte[], byte[]> consumer, String topic) {
            this.consumer = consumer;
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    // What was read is committed before another member goes on: accepted in a rebalance too.
                    consumer.commitSync();
                    owned.removeAll(partitions);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    owned.addAll(partitions);
                }
            });
        }

        void poll() {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                read.add(ByteBuffer.wrap(record.value()).getLong());
            }
            try {
                consumer.commitSync();
            } catch (RebalanceInProgressException e) {
                // The next poll takes part in the rebalance, and commits when partitions are given up.
            }
        }
    }

    private void twoMembersShareAGroup() throws Exception {
        for (String assignor : List.of("RangeAssignor", "CooperativeStickyAssignor")) {
            String topic = create("java-shared-" + assignor, 4);
            Map<String, Object> settings = Map.of(
                    "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor,
                    "heartbeat.interval.ms", 200,
                    "enable.auto.commit", false);
            long next = 0;
            try (KafkaProducer<byte[], byte[]> producer = producer(Map.of())) {
                Member first = new Member(consumer("shared-" + assignor, settings), topic);
                next = produce(producer, topic, next, 100);
                until(() -> first.owned.size() == 4, "the first member owns all", first);
                Member second = new Member(consumer("shared-" + assignor, settings), topic);
                next = produce(producer, topic, next, 100);
                until(() -> first.owned.size() == 2 && second.owned.size() == 2, "both own half", first, second);
                next = produce(producer, topic, next, 100);
                long soFar = next;
                until(() -> first.read.size() + second.read.size() == soFar, "all records read", first, second);
                require(!second.read.isEmpty(), "the second member read something");
                first.consumer.close();
                until(() -> second.owned.size() == 4, "the one that stayed owns all", second);
                next = produce(producer, topic, next, 100);
                long total = next;
                until(() -> first.read.size() + second.read.size() >= total, "all records read", second);
                second.consumer.close();
                Set<Long> distinct = new HashSet<>(first.read);
                distinct.addAll(second.read);
                require(distinct.size() == total, distinct.size() + " distinct records instead of " + total);
                require(first.read.size() + second.read.size() == total, "a record was read twice though commits were kept");
            }
        }
        System.out.println("a group of two: shared, handed over, each record once");
    }

    private void commitsAreGoneOnFrom() throws Exception {
        String topic = create("java-commits", 2);
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = producer(Map.of())) {
            for (int i = 0; i < 20; i++) {
                producer.send(new ProducerRecord<>(topic, i % 2, null, number(i)));
            }
            producer.flush();
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("commits", Map.of("enable.auto.commit", false))) {
            consumer.subscribe(List.of(topic));
            int read = 0;
            long deadline = deadline();
            while (read < 20) {
                require(System.currentTimeMillis() < deadline, read + " of 20 records read within a minute");
                read += consumer.poll(POLL).count();
            }
            consumer.commitSync(Map.of(zero, new OffsetAndMetadata(3, "three"), one, new OffsetAndMetadata(7)));
            Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(Set.of(zero, one));
            require(committed.get(zero).offset() == 3 && committed.get(zero).metadata().equals("three"), "committed " + committed);
            require(committed.get(one).offset() == 7, "committed " + committed);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("commits", Map.of("enable.auto.commit", false))) {
            Map<Integer, Long> firstOffsets = new HashMap<>();
            consumer.subscribe(List.of(topic));
            long deadline = deadline();
            while (firstOffsets.size() < 2) {
                require(System.currentTimeMillis() < deadline, "the next member read " + firstOffsets + " within a minute");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    firstOffsets.putIfAbsent(record.partition(), record.offset());
                }
            }
            require(firstOffsets.equals(Map.of(0, 3L, 1, 7L)), "the next member began at " + firstOffsets);
        }
        System.out.println("commits: the next member goes on from them");
    }

    private interface Condition {
        boolean holds();
    }

    private static void until(Condition condition, String what, Member... members) {
        long deadline = deadline();
        while (!condition.holds()) {
            if (System.currentTimeMillis() > deadline) {
                StringBuilder state = new StringBuilder();
                for (Member member : members) {
                    state.append("; owns ").append(member.owned).append(", read ").append(member.read.size());
                }
                require(false, "not within a minute: " + what + state);
            }
            for (Member member : members) {
                member.poll();
            }
        }
    }

    private String create(String topic, int partitions) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
        return topic;
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.putAll(settings);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, Object> settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        properties.putAll(settings);
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static long produce(KafkaProducer<byte[], byte[]> producer, String topic, long next, int count) throws Exception {
        List<Future<RecordMetadata>> acknowledged = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            acknowledged.add(producer.send(new ProducerRecord<>(topic, (int) (next % 4), null, number(next))));
            next++;
        }
        for (Future<RecordMetadata> one : acknowledged) {
            one.get();
        }
        return next;
    }

    private static byte[] number(long number) {
        return ByteBuffer.allocate(Long.BYTES).putLong(number).array();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static long deadline() {
        return System.currentTimeMillis() + DEADLINE_MS;
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
