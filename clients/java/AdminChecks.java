// SPDX-License-Identifier: Apache-2.0

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.function.Predicate;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.AlterPartitionReassignmentsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;

/**
 * Asks several brokers for what Java's AdminClient can ask, right and wrong, and prints how each request ended: one line
 * each, without anything that differs from run to run. What is right is for the caller to say, who has the lines of
 * Apache Kafka too.
 * Arguments: bootstrap servers, ids of three brokers.
 */
public final class AdminChecks {
    private static final int TIMEOUT_MS = 20_000;

    private final Admin admin;
    private final int a;
    private final int b;
    private final int c;
    /** No broker has it. */
    private static final int NOBODY = 99;

    private AdminChecks(Admin admin, int a, int b, int c) {
        this.admin = admin;
        this.a = a;
        this.b = b;
        this.c = c;
    }

    private interface Call {
        Object run() throws Exception;
    }

    private static void show(String what, Call call) throws InterruptedException {
        String outcome;
        try {
            Object result = call.run();
            outcome = result == null ? "done" : result.toString();
        } catch (ExecutionException e) {
            outcome = e.getCause().getClass().getSimpleName();
        } catch (InterruptedException e) {
            throw e;
        } catch (Exception e) {
            outcome = "before it was sent: " + e.getClass().getSimpleName();
        }
        System.out.println(what + " -> " + outcome);
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(AdminClientConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, TIMEOUT_MS);
        settings.put(AdminClientConfig.REQUEST_TIMEOUT_MS_CONFIG, TIMEOUT_MS);
        try (Admin admin = Admin.create(settings)) {
            AdminChecks checks =
                new AdminChecks(admin, Integer.parseInt(args[1]), Integer.parseInt(args[2]), Integer.parseInt(args[3]));
            checks.topics();
            checks.partitions();
            checks.descriptions();
            checks.reassignments();
            checks.elections();
            checks.settingsOfTopics();
            checks.settingsOfBrokers();
            checks.clusterAndOffsets();
        }
    }

    private void create(String what, NewTopic topic) throws InterruptedException {
        show("create a topic, " + what, () -> admin.createTopics(List.of(topic)).all().get());
    }

    private void topics() throws InterruptedException {
        create("assigned by hand", new NewTopic("admin", Map.of(0, List.of(a, b, c), 1, List.of(b, c, a))));
        create("that is there", new NewTopic("admin", 1, (short) 1));
        create("assigned from partition 1 on", new NewTopic("bad", Map.of(1, List.of(a))));
        create("with a gap in its partitions", new NewTopic("bad", Map.of(0, List.of(a), 2, List.of(b))));
        create("assigned to a broker that is not there", new NewTopic("bad", Map.of(0, List.of(a, NOBODY))));
        create("assigned to one broker twice", new NewTopic("bad", Map.of(0, List.of(a, a))));
        create("assigned to nobody", new NewTopic("bad", Map.of(0, List.of())));
        create("with unlike numbers of replicas", new NewTopic("bad", Map.of(0, List.of(a), 1, List.of(a, b))));
        create("with more replicas than brokers", new NewTopic("bad", 1, (short) 4));
        create("with no replicas", new NewTopic("bad", 1, (short) 0));
        create("with no partitions", new NewTopic("bad", 0, (short) 1));
        create("with -2 partitions", new NewTopic("bad", -2, (short) 1));
        create("of a name with a blank", new NewTopic("a b", 1, (short) 1));
        create("of the name ..", new NewTopic("..", 1, (short) 1));
        create("of the empty name", new NewTopic("", 1, (short) 1));
        create("of a name that is too long", new NewTopic("n".repeat(250), 1, (short) 1));
        create("of a name with a dot", new NewTopic("with.dot", 1, (short) 1));
        create("of a name that collides", new NewTopic("with_dot", 1, (short) 1));
        create("with an unknown setting", new NewTopic("bad", 1, (short) 1).configs(Map.of("no.such", "1")));
        create("with a bad value", new NewTopic("bad", 1, (short) 1).configs(Map.of("retention.ms", "soon")));
        create("with no value", new NewTopic("bad", 1, (short) 1).configs(Collections.singletonMap("retention.ms", null)));
        show("only check the creation of a topic", () -> {
            var options = new CreateTopicsOptions().validateOnly(true);
            var result = admin.createTopics(List.of(new NewTopic("checked", 3, (short) 2)), options);
            return result.numPartitions("checked").get() + " partitions, " + result.replicationFactor("checked").get()
                + " replicas, is there: " + admin.listTopics().names().get().contains("checked");
        });
        show("create a topic with settings and defaults", () -> {
            var topic = new NewTopic("defaults", Optional.empty(), Optional.of((short) 3))
                .configs(Map.of("retention.ms", "7200000"));
            var result = admin.createTopics(List.of(topic));
            var retention = result.config("defaults").get().get("retention.ms");
            return result.numPartitions("defaults").get() + " partitions, retention.ms=" + retention.value() + " "
                + retention.source();
        });
        show("delete a topic", () -> admin.deleteTopics(List.of("defaults")).all().get());
        show("delete a topic that is not there", () -> admin.deleteTopics(List.of("nothing")).all().get());
        show("delete a topic of the empty name", () -> admin.deleteTopics(List.of("")).all().get());
        show("delete a topic by an unknown id", () ->
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(Uuid.fromString("AAAAAAAAAAAAAAAAAAAAAQ")))).all().get());
    }

    private void partitions() throws InterruptedException {
        add("none", NewPartitions.increaseTo(2));
        add("fewer", NewPartitions.increaseTo(1));
        add("a negative number", NewPartitions.increaseTo(-1));
        add("two with one assignment", NewPartitions.increaseTo(4, List.of(List.of(a, b, c))));
        add("one with two assignments", NewPartitions.increaseTo(3, List.of(List.of(a, b, c), List.of(a, b, c))));
        add("one with no assignments", NewPartitions.increaseTo(3, List.of()));
        add("on too few brokers", NewPartitions.increaseTo(3, List.of(List.of(a, b))));
        add("on a broker that is not there", NewPartitions.increaseTo(3, List.of(List.of(a, b, NOBODY))));
        add("on one broker twice", NewPartitions.increaseTo(3, List.of(List.of(a, b, b))));
        add("on nobody", NewPartitions.increaseTo(3, List.of(List.of())));
        show("only check more partitions", () -> {
            var options = new CreatePartitionsOptions().validateOnly(true);
            admin.createPartitions(Map.of("admin", NewPartitions.increaseTo(5)), options).all().get();
            return describe("admin").partitions().size() + " as before";
        });
        add("two by hand", NewPartitions.increaseTo(4, List.of(List.of(c, b, a), List.of(a, c, b))));
        show("the replicas now", () -> once(() -> replicas("admin"), given -> given.split("\\],").length == 4));
        show("more partitions of a topic that is not there", () ->
            admin.createPartitions(Map.of("nothing", NewPartitions.increaseTo(5))).all().get());
    }

    private void add(String what, NewPartitions partitions) throws InterruptedException {
        show("add partitions, " + what, () -> admin.createPartitions(Map.of("admin", partitions)).all().get());
    }

    private TopicDescription describe(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private String replicas(String topic) throws Exception {
        List<String> partitions = new ArrayList<>();
        for (TopicPartitionInfo partition : describe(topic).partitions()) {
            partitions.add(partition.replicas().stream().map(Node::idString).toList().toString());
        }
        return partitions.toString();
    }

    private void descriptions() throws InterruptedException {
        show("describe a topic in pages of one partition", () -> {
            var options = new DescribeTopicsOptions().partitionSizeLimitPerResponse(1);
            var names = TopicCollection.ofTopicNames(List.of("admin", "with.dot"));
            var found = new TreeMap<>(admin.describeTopics(names, options).allTopicNames().get());
            List<String> topics = new ArrayList<>();
            found.forEach((name, topic) -> topics.add(name + " " + topic.partitions().stream()
                .map(partition -> partition.partition() + " elr " + partition.elr()).toList() + " internal "
                + topic.isInternal()));
            return topics;
        });
        show("describe a topic with what may be done", () -> {
            var options = new DescribeTopicsOptions().includeAuthorizedOperations(true);
            var topic = admin.describeTopics(List.of("admin"), options).allTopicNames().get().get("admin");
            return new TreeSet<>(topic.authorizedOperations());
        });
        show("describe a topic that is not there", () -> describe("nothing"));
        show("describe a topic of a bad name", () -> describe("a b"));
        show("describe a topic of the empty name", () -> describe(""));
        show("describe a topic by an unknown id", () ->
            admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.fromString("AAAAAAAAAAAAAAAAAAAAAQ"))))
                .allTopicIds().get());
        show("describe a topic by its id", () -> {
            Uuid id = describe("admin").topicId();
            return admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name();
        });
    }

    private void reassign(String what, int partition, Integer... replicas) throws InterruptedException {
        show("reassign, " + what, () -> admin.alterPartitionReassignments(Map.of(new TopicPartition("admin", partition),
            Optional.of(new NewPartitionReassignment(List.of(replicas))))).all().get());
    }

    private void reassignments() throws InterruptedException {
        reassign("to a broker that is not there", 0, a, b, NOBODY);
        reassign("to a negative broker", 0, a, b, -1);
        reassign("to one broker twice", 0, a, b, b);
        reassign("of a partition that is not there", 17, a, b, c);
        reassign("of a negative partition", -1, a, b, c);
        reassign("to the replicas it has", 0, a, b, c);
        show("reassign, to nobody", () -> new NewPartitionReassignment(List.of()));
        show("reassign, of a topic that is not there", () ->
            admin.alterPartitionReassignments(Map.of(new TopicPartition("nothing", 0),
                Optional.of(new NewPartitionReassignment(List.of(a))))).all().get());
        show("reassign, to fewer replicas where that is not allowed", () -> {
            var options = new AlterPartitionReassignmentsOptions().allowReplicationFactorChange(false);
            var wish = Map.of(new TopicPartition("admin", 0), Optional.of(new NewPartitionReassignment(List.of(a, b))));
            return admin.alterPartitionReassignments(wish, options).all().get();
        });
        show("cancel a reassignment that is not there", () ->
            admin.alterPartitionReassignments(Map.of(new TopicPartition("admin", 0), Optional.empty())).all().get());
        show("cancel a reassignment of a topic that is not there", () ->
            admin.alterPartitionReassignments(Map.of(new TopicPartition("nothing", 0), Optional.empty())).all().get());
        show("list reassignments", () -> admin.listPartitionReassignments().reassignments().get());
        show("list reassignments of a topic that is not there", () ->
            admin.listPartitionReassignments(Set.of(new TopicPartition("nothing", 0))).reassignments().get());
        show("one that is wrong beside one that is right", () -> {
            var right = new TopicPartition("admin", 1);
            var wrong = new TopicPartition("admin", 0);
            var futures = admin.alterPartitionReassignments(Map.of(
                right, Optional.of(new NewPartitionReassignment(List.of(c, b, a))),
                wrong, Optional.of(new NewPartitionReassignment(List.of(NOBODY))))).values();
            return outcome(futures.get(right)) + ", " + outcome(futures.get(wrong)) + ", "
                + once(() -> replicas("admin"), given -> given.contains("[" + c + ", " + b + ", " + a + "], [" + c));
        });
        reassign("to fewer replicas", 2, c, b);
        reassign("to more replicas", 2, c, b, a);
        show("the replicas then", () -> {
            while (!admin.listPartitionReassignments().reassignments().get().isEmpty()) {
                Thread.sleep(20);
            }
            return once(() -> replicas("admin"), given -> !given.contains("[" + c + ", " + b + "]"));
        });
    }

    private static String outcome(KafkaFuture<?> future) throws InterruptedException {
        try {
            future.get();
            return "done";
        } catch (ExecutionException e) {
            return e.getCause().getClass().getSimpleName();
        }
    }

    private void elect(String what, ElectionType type, TopicPartition... partitions) throws InterruptedException {
        show("elect, " + what, () -> {
            var results = admin.electLeaders(type, Set.of(partitions)).partitions().get();
            Map<String, String> outcomes = new TreeMap<>();
            results.forEach((partition, error) ->
                outcomes.put(partition.toString(), error.map(e -> e.getClass().getSimpleName()).orElse("done")));
            return outcomes;
        });
    }

    private void elections() throws InterruptedException {
        elect("the preferred one that leads", ElectionType.PREFERRED, new TopicPartition("admin", 0));
        elect("anybody where one leads", ElectionType.UNCLEAN, new TopicPartition("admin", 0));
        elect("of a partition that is not there", ElectionType.PREFERRED, new TopicPartition("admin", 17));
        elect("of a topic that is not there", ElectionType.PREFERRED, new TopicPartition("nothing", 0));
        elect("of a negative partition", ElectionType.UNCLEAN, new TopicPartition("admin", -1));
        elect("of no partition", ElectionType.PREFERRED);
        elect("the preferred one after it was changed", ElectionType.PREFERRED, new TopicPartition("admin", 1),
            new TopicPartition("nothing", 0));
        show("elect, anybody everywhere", () -> admin.electLeaders(ElectionType.UNCLEAN, null).partitions().get());
    }

    private void alter(String what, ConfigResource resource, AlterConfigOp... changes) throws InterruptedException {
        show("change settings, " + what, () ->
            admin.incrementalAlterConfigs(Map.of(resource, (Collection<AlterConfigOp>) List.of(changes))).all().get());
    }

    private static AlterConfigOp change(OpType type, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private void settingsOfTopics() throws InterruptedException {
        var topic = new ConfigResource(ConfigResource.Type.TOPIC, "admin");
        alter("of a topic", topic, change(OpType.SET, "retention.ms", "7200000"));
        alter("of a topic, one without a meaning", topic, change(OpType.SET, "no.such", "1"));
        alter("of a topic, delete one without a meaning", topic, change(OpType.DELETE, "no.such", ""));
        alter("of a topic, delete one that is not set", topic, change(OpType.DELETE, "segment.ms", ""));
        alter("of a topic, no number", topic, change(OpType.SET, "retention.ms", "soon"));
        alter("of a topic, below the least", topic, change(OpType.SET, "segment.bytes", "1"));
        alter("of a topic, min.insync.replicas of 0", topic, change(OpType.SET, "min.insync.replicas", "0"));
        alter("of a topic, no value", topic, change(OpType.SET, "retention.ms", null));
        alter("of a topic, the empty value", topic, change(OpType.SET, "retention.ms", ""));
        alter("of a topic, append to no list", topic, change(OpType.APPEND, "retention.ms", "1"));
        alter("of a topic, subtract from no list", topic, change(OpType.SUBTRACT, "retention.ms", "1"));
        alter("of a topic, twice the same", topic, change(OpType.SET, "retention.ms", "1"),
            change(OpType.SET, "retention.ms", "2"));
        alter("of a topic, append to a list", topic,
            change(OpType.APPEND, "leader.replication.throttled.replicas", "0:" + a + ",1:" + b));
        alter("of a topic, append what is in the list", topic,
            change(OpType.APPEND, "leader.replication.throttled.replicas", "0:" + a));
        alter("of a topic, subtract from a list", topic,
            change(OpType.SUBTRACT, "leader.replication.throttled.replicas", "1:" + b + ",9:9"));
        alter("of a topic, a list in no form", topic,
            change(OpType.SET, "follower.replication.throttled.replicas", "everything"));
        alter("of a topic, all throttled", topic, change(OpType.SET, "follower.replication.throttled.replicas", "*"));
        alter("of a topic, one right and one wrong", topic, change(OpType.SET, "segment.ms", "86400000"),
            change(OpType.SET, "max.message.bytes", "-5"));
        alter("of a topic, nothing", topic);
        alter("of a topic that is not there", new ConfigResource(ConfigResource.Type.TOPIC, "nothing"),
            change(OpType.SET, "retention.ms", "1"));
        alter("of a topic of a bad name", new ConfigResource(ConfigResource.Type.TOPIC, "a b"),
            change(OpType.SET, "retention.ms", "1"));
        alter("of a topic of the empty name", new ConfigResource(ConfigResource.Type.TOPIC, ""),
            change(OpType.SET, "retention.ms", "1"));
        show("only check a change of settings", () -> admin.incrementalAlterConfigs(
            Map.of(topic, List.of(change(OpType.SET, "retention.ms", "1"))), new AlterConfigsOptions().validateOnly(true))
            .all().get());
        show("what is set of the topic", () -> once(() -> set(topic), given -> given.contains("replicas=*")));
        show("the settings of a topic that is not there", () ->
            set(new ConfigResource(ConfigResource.Type.TOPIC, "nothing")));
        show("the settings of a topic of a bad name", () -> set(new ConfigResource(ConfigResource.Type.TOPIC, "a b")));
    }

    /** What was given for the resource while it ran. */
    private String set(ConfigResource resource) throws Exception {
        Map<String, String> given = new TreeMap<>();
        for (ConfigEntry entry : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
            if (entry.source().name().startsWith("DYNAMIC")) {
                given.put(entry.name(), entry.value() + " " + entry.source() + " " + entry.type()
                    + (entry.isReadOnly() ? " read-only" : "") + (entry.isSensitive() ? " sensitive" : ""));
            }
        }
        return given.toString();
    }

    /** What the call gives once it is as expected, or after ten seconds: brokers hear of changes after the controller. */
    private static String once(Call call, Predicate<String> expected) throws Exception {
        for (int tries = 0; tries < 500; tries++) {
            String given = call.run().toString();
            if (expected.test(given)) {
                return given;
            }
            Thread.sleep(20);
        }
        return call.run().toString();
    }

    private void settingsOfBrokers() throws InterruptedException {
        var one = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(b));
        var all = new ConfigResource(ConfigResource.Type.BROKER, "");
        String rate = "leader.replication.throttled.rate";
        alter("of all brokers", all, change(OpType.SET, rate, "2000000"));
        alter("of a broker", one, change(OpType.SET, rate, "3000000"));
        show("what is set of the broker", () -> once(() -> set(one), given -> given.contains("rate=3000000")));
        show("what is set of all brokers", () -> once(() -> set(all), given -> given.contains("rate=2000000")));
        alter("of a broker, no number", one, change(OpType.SET, rate, "fast"));
        alter("of a broker, a negative rate", one, change(OpType.SET, rate, "-1"));
        alter("of a broker, one that needs a restart", one, change(OpType.SET, "node.id", "7"));
        alter("of a broker, one without a meaning", one, change(OpType.SET, "no.such", "1"));
        alter("of a broker, append to no list", one, change(OpType.APPEND, rate, "1"));
        alter("of a broker, delete what is not set", one,
            change(OpType.DELETE, "follower.replication.throttled.rate", ""));
        alter("of all brokers, delete", all, change(OpType.DELETE, rate, ""));
        alter("of a broker, delete", one, change(OpType.DELETE, rate, ""));
        show("what is set of the broker at last", () ->
            once(() -> set(one), given -> !given.contains("2000000") && !given.contains("3000000")));
        alter("of a broker whose id is no number", new ConfigResource(ConfigResource.Type.BROKER, "one"),
            change(OpType.SET, rate, "1"));
        show("the settings of a broker whose id is no number", () ->
            set(new ConfigResource(ConfigResource.Type.BROKER, "one")));
    }

    private void clusterAndOffsets() throws InterruptedException {
        show("the cluster's brokers", () -> {
            var options = new DescribeClusterOptions().includeFencedBrokers(true).includeAuthorizedOperations(true);
            var cluster = admin.describeCluster(options);
            Map<Integer, String> brokers = new TreeMap<>();
            for (Node node : cluster.nodes().get()) {
                brokers.put(node.id(), "rack " + node.rack() + " fenced " + node.isFenced());
            }
            return brokers + " " + new TreeSet<>(cluster.authorizedOperations().get());
        });
        show("unregister a broker that is not there", () -> admin.unregisterBroker(NOBODY).all().get());
        show("unregister a negative broker", () -> admin.unregisterBroker(-1).all().get());
        show("log folders", () -> {
            var folders = admin.describeLogDirs(List.of(a, b, c)).allDescriptions().get();
            Map<Integer, String> brokers = new TreeMap<>();
            folders.forEach((id, paths) -> paths.values().forEach(folder -> brokers.put(id,
                new TreeSet<>(folder.replicaInfos().keySet().stream()
                    .filter(partition -> partition.topic().equals("admin")).map(TopicPartition::toString).toList())
                + " known size " + (folder.totalBytes().getAsLong() > folder.usableBytes().getAsLong()))));
            return brokers;
        });
        show("move a replica to a folder that is not there", () ->
            admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica("admin", 0, a), "/no/such/folder")).all().get());
        show("offsets of an empty partition", () -> {
            var partition = new TopicPartition("admin", 0);
            List<Long> offsets = new ArrayList<>();
            for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp(),
                OffsetSpec.forTimestamp(1), OffsetSpec.earliestLocal(), OffsetSpec.latestTiered())) {
                offsets.add(admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset());
            }
            return offsets;
        });
        show("delete records", () -> admin.deleteRecords(
            Map.of(new TopicPartition("admin", 0), RecordsToDelete.beforeOffset(0))).all().get());
        show("describe a group that is not there", () ->
            admin.describeConsumerGroups(List.of("nobody")).all().get());
        show("describe a classic group that is not there", () ->
            admin.describeClassicGroups(List.of("nobody")).all().get());
        show("the offsets of a group that is not there", () ->
            admin.listConsumerGroupOffsets("nobody").partitionsToOffsetAndMetadata().get());
        show("the metadata quorum", () -> {
            admin.describeMetadataQuorum().quorumInfo().get();
            return "known";
        });
        show("the resources that have settings", () -> {
            admin.listConfigResources().all().get();
            return "known";
        });
        show("unfinished transactions", () -> admin.listTransactions().all().get());
        // Chance placed it, so what comes next had better not find it.
        show("delete what was placed by chance", () -> admin.deleteTopics(List.of("with.dot")).all().get());
        show("quotas", () -> admin.describeClientQuotas(
            org.apache.kafka.common.quota.ClientQuotaFilter.all()).entities().get());
    }
}
