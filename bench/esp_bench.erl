%% What `make bench` prints: this project beside the BEAM, peer and project in
%% one run, medians of several rounds, each row with its ratio, the aim and
%% whether it was met. bench/README.md says how each is measured.
-module(esp_bench).

-export([main/0]).
%% on the peer node
-export([count/2, echo/0, stage/1, use_once/2]).

-define(ROUNDS, 5).
-define(NODE, bench).

-spec main() -> no_return().
main() ->
    {ok, _} = application:ensure_all_started(erlangsp),
    {ok, _} = esp_node:start_link(?NODE, #{workers => 1}),
    ok = esp_node:load_plugin(?NODE, os:getenv("ESP_BENCH_PLUGIN")),
    {ok, Peer, PeerNode} = peer:start_link(#{
        name => peer:random_name(bench_peer),
        host => "127.0.0.1",
        longnames => true,
        args => ["-hidden", "-setcookie", atom_to_list(erlang:get_cookie()),
                 "+S", "1", "-pa", filename:dirname(code:which(?MODULE))]
    }),
    pin([own_pid(), node_pid(), peer_pid(PeerNode)]),
    io:format("~-44ts ~12ts ~12ts ~8ts ~8ts~n", ["", "erlangsp", "BEAM", "ratio", "aim"]),
    Rows = [
        fun pipeline/1,
        fun(_) -> idle_cpu() end,
        fun one_way_in/1,
        fun one_way_out/1,
        fun round_trip/1,
        fun bytes_per_node/1,
        fun consume/1,
        fun burst/1,
        fun memory_of_burst/1,
        fun slow_receiver/1,
        fun control/1,
        fun control_max/1,
        fun priority/1,
        fun flood/1,
        fun(_) -> engine_pipeline() end,
        fun(_) -> untraced() end,
        fun(_) -> beside_queues() end,
        fun(_) -> lone_token() end,
        fun(_) -> broadcast(1) end,
        fun(_) -> broadcast(8) end,
        fun(_) -> broadcast(64) end,
        fun(_) -> blocked_task() end,
        fun(_) -> create_coop() end,
        fun(_) -> create_and_kill() end,
        fun(_) -> heap_per_node() end,
        fun(_) -> typed_values("allocations") end,
        fun(_) -> typed_values("copies") end
    ],
    lists:foreach(fun(Row) -> print(Row(PeerNode)) end, Rows),
    peer:stop(Peer),
    halt(0).

%%% The rows: {What, Ours, Theirs, Unit, Better, Aim}; Better is `less` or
%%% `more`, Aim what Ours/Theirs or its inverse must reach.

pipeline(_) ->
    N = 300_000,
    Stages = 8,
    {ok, Head} = coop:start_link(
        coop_flow:pipeline(
            [native(source, source)] ++
                [native(list_to_atom("p" ++ integer_to_list(I)), pass) || I <- lists:seq(1, Stages)] ++
                [native(sink, sink)]
        ),
        options()
    ),
    Ours = through(Head, N),
    Theirs = median(fun() ->
        Me = self(),
        Ref = make_ref(),
        Sink = spawn_link(fun() -> count(N, {Me, Ref}) end),
        First = lists:foldl(fun(_, To) -> spawn_link(?MODULE, stage, [To]) end, Sink, lists:seq(1, Stages)),
        spawn_link(fun() -> send(First, N) end),
        receive Ref -> ok end,
        First ! stop
    end),
    Hops = N * (Stages + 1),
    put(beam_pipeline, Theirs * 1000 / Hops),
    {"pipeline of 8 stages, ns a hop", Ours * 1000 / Hops, Theirs * 1000 / Hops, less, 5.0}.

%%% Rows of the engine alone, which is a program of its own: what it prints, by
%%% name and column.

engine_run(Name, Filter) ->
    Program = filename:join([os:getenv("ESP_BUILD_DIR"), "bench", Name]),
    Csv = os:cmd(
        "taskset -c 0 " ++ Program ++ " --benchmark_filter=" ++ Filter ++
            " --benchmark_format=csv --benchmark_repetitions=" ++ integer_to_list(?ROUNDS) ++
            " 2>/dev/null"
    ),
    [Header | Lines] = lists:dropwhile(
        fun(L) -> not lists:prefix("name,", L) end, string:split(Csv, "\n", all)
    ),
    Columns = columns(Header),
    Measured = [maps:from_list(lists:zip(Columns, columns(L))) || L <- Lines, L =/= ""],
    [M#{"name" := string:trim(maps:get("name", M), both, "\"")} || M <- Measured].

columns(Line) -> [string:trim(C, both, "\"") || C <- string:split(Line, ",", all)].

%% The median of the rounds.
engine(Name, Column) -> median_of(get(engine), Name, Column).

median_of(Run, Name, Column) ->
    Values = lists:sort([
        number(maps:get(Column, M))
     || M = #{"name" := N} <- Run,
        lists:member(N, [Name, Name ++ "/manual_time", Name ++ "/iterations:1/manual_time"])
    ]),
    lists:nth((length(Values) + 1) div 2, Values).

number(Text) ->
    case string:to_float(Text) of
        {error, no_float} -> float(list_to_integer(Text));
        {Value, _} -> Value
    end.

ns_an_item(Name) -> 1.0e9 / engine(Name, "items_per_second").

engine_pipeline() ->
    put(engine, engine_run("engine_bench", ".")),
    {"... in the engine alone, ns a hop", ns_an_item("pipeline/8"), get(beam_pipeline), less, 5.0}.

%% By a program that differs in those tests alone.
untraced() ->
    {"... tests for tracing in, ns (and left out)", ns_an_item("pipeline/8"),
        1.0e9 / median_of(engine_run("engine_bench_untraced", "pipeline"), "pipeline/8", "items_per_second"),
        less, 0.97}.

beside_queues() ->
    {"... beside bare intrusive queues, ns", ns_an_item("pipeline/8"),
        ns_an_item("intrusive_queues"), less, 0.5}.

lone_token() ->
    {Length, Laps} = {1_000, 20},
    Me = self(),
    Theirs = median(fun() ->
        Last = spawn_link(fun() -> ring_end(Laps, Me) end),
        First = lists:foldl(fun(_, To) -> spawn_link(?MODULE, stage, [To]) end, Last, lists:seq(2, Length)),
        Last ! {ring, First},
        receive ring_done -> ok end,
        First ! stop
    end),
    {"one token through 1,000 nodes, ns a hop", ns_an_item("lone_token/1000"),
        Theirs * 1000 / (Length * Laps), less, 7.0}.

ring_end(Laps, Report) -> receive {ring, First} -> ring_end(Laps, First, Report) end.

ring_end(Laps, First, Report) ->
    First ! token,
    receive token when Laps > 1 -> ring_end(Laps - 1, First, Report);
            token -> Report ! ring_done, receive stop -> ok end
    end.

broadcast(Width) ->
    N = 200_000 div Width,
    Theirs = median(fun() ->
        Ref = make_ref(),
        Me = self(),
        Sinks = [spawn_link(fun() -> count(N, {Me, Ref}) end) || _ <- lists:seq(1, Width)],
        spawn_link(fun() -> send_all(Sinks, N) end),
        [receive Ref -> ok end || _ <- Sinks]
    end),
    {lists:flatten(io_lib:format("broadcast to ~b, deliveries/s", [Width])),
        engine("broadcast/" ++ integer_to_list(Width), "items_per_second"),
        N * Width * 1.0e6 / Theirs, more, 5.0}.

send_all(_, 0) -> ok;
send_all(Sinks, N) -> [S ! N || S <- Sinks], send_all(Sinks, N - 1).

blocked_task() ->
    {"a task that waits and goes on, ns (of 300)", ns_an_item("blocked"), 300.0, less, 1.0}.

create_coop() ->
    {"co-op of 8 nodes made, us (of 20)", ns_an_item("create_coop") / 1000, 20.0, less, 1.0}.

create_and_kill() ->
    N = 100_000,
    Theirs = median(fun() ->
        {Parent, Ref} = spawn_monitor(fun() ->
            Pids = [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)],
            exit({made, length(Pids)})
        end),
        receive {'DOWN', Ref, process, Parent, _} -> ok end,
        wait_until(fun() -> erlang:system_info(process_count) < N end)
    end),
    {"100,000 nodes made and killed, us each",
        ns_an_item("create_and_kill/100000") / 1000, Theirs / N, less, 10.0}.

heap_per_node() ->
    {"heap of an idle co-op node, bytes (of 256)", engine("create_and_kill/100000", "bytes"), 256.0,
        less, 1.0}.

%% A count, of which a hop may have a hundredth: what a flush costs.
typed_values(What) ->
    {What ++ " a hop of a string of 100 bytes (of 0)", engine("typed_values", What), 0.01, less, 1.0}.

%% All of its threads, over ten seconds.
idle_cpu() ->
    Before = cpu_ns(),
    receive after 10_000 -> ok end,
    {"CPU of an idle C-node, % of a core (of 0.1)", (cpu_ns() - Before) / 1.0e10 * 100, 0.1, less, 1.0}.

cpu_ns() ->
    Files = filelib:wildcard("/proc/" ++ integer_to_list(node_pid()) ++ "/task/*/schedstat"),
    lists:sum([
        list_to_integer(hd(string:lexemes(binary_to_list(element(2, file:read_file(F))), " ")))
     || F <- Files
    ]).

one_way_in(PeerNode) ->
    N = 200_000,
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([coop:native(count, bench_tasks, count, #{args => N})]),
        (options())#{max_queue => 10_000_000}
    ),
    [{count, Counter}] = maps:get(nodes, coop:info(Head)),
    Ours = median(fun() ->
        send(Counter, N),
        receive N -> ok end
    end),
    coop:stop(Head),
    Theirs = median(fun() ->
        Ref = make_ref(),
        Peer = spawn_link(PeerNode, ?MODULE, count, [N, {self(), Ref}]),
        send(Peer, N),
        receive Ref -> ok end
    end),
    {"Erlang to it, messages/s", N * 1.0e6 / Ours, N * 1.0e6 / Theirs, more, 1.0}.

one_way_out(PeerNode) ->
    N = 200_000,
    {ok, Head} = coop:start_link(coop_flow:pipeline([native(burst, burst)]), options()),
    Ours = median(fun() ->
        ok = coop:relay_data(Head, {self(), N}),
        drain(N)
    end),
    coop:stop(Head),
    Theirs = median(fun() ->
        spawn_link(PeerNode, ?MODULE, stage, [self()]) ! {burst, N},
        drain(N)
    end),
    {"it to Erlang, messages/s", N * 1.0e6 / Ours, N * 1.0e6 / Theirs, more, 1.0}.

round_trip(PeerNode) ->
    N = 5_000,
    {ok, Head} = coop:start_link(coop_flow:pipeline([native(echo, echo)]), options()),
    [{echo, Echo}] = maps:get(nodes, coop:info(Head)),
    Ours = median(fun() -> ping(Echo, N) end),
    coop:stop(Head),
    Peer = spawn_link(PeerNode, ?MODULE, echo, []),
    Theirs = median(fun() -> ping(Peer, N) end),
    {"round trip, us", Ours / N, Theirs / N, less, 1.0}.

bytes_per_node(_) ->
    N = 20_000,
    Workers = [native(list_to_atom("w" ++ integer_to_list(I)), pass) || I <- lists:seq(1, N)],
    Template = coop_flow:fanout(native(router, pass), Workers, none),
    Before = resident(),
    {ok, Head} = coop:start_link(Template, (options())#{receiver => none}),
    Ours = (resident() - Before) / N,
    coop:stop(Head),
    {memory, MemBefore} = {memory, erlang:memory(processes)},
    Pids = [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)],
    Theirs = (erlang:memory(processes) - MemBefore) / N,
    [P ! stop || P <- Pids],
    {"bytes an idle co-op node", Ours, Theirs, less, 10.0}.

%% A process for each datum, which hands it on and ends.
consume(_) ->
    N = 50_000,
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([
            native(source, source),
            coop:native(router, bench_tasks, pass, #{dataflow => {consume, {1_000, 500, 500}}}),
            native(worker, pass),
            native(sink, sink)
        ]),
        options()
    ),
    Ours = through(Head, N),
    Theirs = median(fun() ->
        Ref = make_ref(),
        Me = self(),
        Sink = spawn_link(fun() -> count(N, {Me, Ref}) end),
        spawn_link(?MODULE, use_once, [N, Sink]),
        receive Ref -> ok end
    end),
    {"consume, data/s", N * 1.0e6 / Ours, N * 1.0e6 / Theirs, more, 1.0}.

-spec use_once(non_neg_integer(), pid()) -> ok.
use_once(0, _Sink) ->
    ok;
use_once(N, Sink) ->
    spawn_link(fun() -> receive Datum -> Sink ! Datum end end) ! N,
    use_once(N - 1, Sink).

%% Of the large one there is one round: it takes long enough to be its own median.
burst(_) ->
    {Small, Large} = {100_000, 10_000_000},
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([native(a, pass), native(b, pass), native(sink, sink)]), options()
    ),
    Burst = fun(N) ->
        relay(Head, N),
        ok = coop:flush(Head, infinity),
        receive N -> ok end
    end,
    SmallRate = Small * 1.0e6 / median(fun() -> Burst(Small) end),
    put(resident, resident()),
    {Time, ok} = timer:tc(fun() -> Burst(Large) end),
    put(growth, resident() - get(resident)),
    coop:stop(Head),
    {"burst of 10 M beside one of 100,000, data/s", Large * 1.0e6 / Time, SmallRate, more, 0.9}.

memory_of_burst(_) ->
    {"resident growth over that burst, MB (beside 8)", get(growth) / 1.0e6, 8.0, less, 1.0}.

%% Fifteen co-ops at work, without and with a sixteenth whose receiver takes one
%% result a millisecond.
slow_receiver(_) ->
    N = 20_000,
    Others = [start_counted(N) || _ <- lists:seq(1, 15)],
    Work = fun() ->
        Feeders = [spawn_monitor(fun() -> relay(Head, N) end) || {Head, _} <- Others],
        [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Feeders],
        [receive {counted, Pid} -> ok end || {_, Pid} <- Others]
    end,
    Slow = spawn(fun slow/0),
    {ok, SlowHead} = coop:start_link(
        coop_flow:pipeline([native(a, pass), native(b, pass)]), (options())#{receiver => Slow}
    ),
    Beside = fun() ->
        {Feeder, Ref} = spawn_monitor(fun() -> relay(SlowHead, 10_000_000) end),
        wait_until(fun() -> waits_for_credit(Feeder) end),
        {Time, _} = timer:tc(Work),
        true = is_process_alive(Feeder),
        exit(Feeder, kill),
        receive {'DOWN', Ref, process, Feeder, killed} -> Time end
    end,
    Work(),
    Rounds = [{element(1, timer:tc(Work)), Beside()} || _ <- lists:seq(1, ?ROUNDS)],
    [Without, With] = [lists:nth((?ROUNDS + 1) div 2, lists:sort(Times)) ||
                       Times <- tuple_to_list(lists:unzip(Rounds))],
    [coop:stop(Head) || {Head, _} <- [{SlowHead, Slow} | Others]],
    exit(Slow, kill),
    Data = 15 * N,
    {"15 co-ops beside a slow receiver, data/s", Data * 1.0e6 / With, Data * 1.0e6 / Without,
        more, 0.9}.

start_counted(N) ->
    Self = self(),
    Receiver = spawn_link(fun() -> counted(N, N, Self) end),
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([native(a, pass), native(b, pass)]), (options())#{receiver => Receiver}
    ),
    {Head, Receiver}.

counted(0, N, To) -> To ! {counted, self()}, counted(N, N, To);
counted(Left, N, To) -> receive _ -> counted(Left - 1, N, To) end.

slow() -> receive _ -> receive after 1 -> slow() end end.

%% Four callers with 10 M data to relay each, without credit most of the time; what
%% control costs meanwhile. Who asks has priority before them on their VM, or its
%% scheduler would be what is measured.
control(_) ->
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([native(a, pass), native(b, pass), native(sink, sink)]),
        (options())#{receiver => none}
    ),
    {ok, Idle} = coop:start_link(coop_flow:pipeline([native(a, pass)]), options()),
    [{_, Node} | _] = maps:get(nodes, coop:info(Head)),
    Callers = [spawn_monitor(fun() -> relay(Head, 10_000_000) end) || _ <- lists:seq(1, 4)],
    wait_until(fun() -> lists:any(fun({Pid, _}) -> waits_for_credit(Pid) end, Callers) end),
    Ask = [
        fun() -> timed(fun() -> sys:get_state(Head) end) end,
        fun() -> timed(fun() -> sys:get_status(Node) end) end,
        fun() -> timed(fun() -> coop:info(Head) end) end,
        fun() -> timed(fun() -> coop:info(Idle) end) end,
        fun() ->
            {ok, Other} = coop:start_link(coop_flow:pipeline([native(a, pass)]), options()),
            unlink(Other),
            Ref = monitor(process, Other),
            timed(fun() ->
                exit(Other, boom),
                receive {'DOWN', Ref, process, _, boom} -> ok end
            end)
        end
    ],
    process_flag(priority, high),
    Times = lists:sort([F() || _ <- lists:seq(1, 200), F <- Ask]),
    process_flag(priority, normal),
    true = lists:all(fun({Pid, _}) -> is_process_alive(Pid) end, Callers),
    [begin exit(Pid, kill), receive {'DOWN', Ref, _, _, _} -> ok end end || {Pid, Ref} <- Callers],
    coop:stop(Head),
    coop:stop(Idle),
    put(control_max, lists:last(Times) / 1000),
    P99 = lists:nth(length(Times) * 99 div 100, Times) / 1000,
    {"control as 40 M data wait, p99 ms (of 10)", P99, 10.0, less, 1.0}.

control_max(_) ->
    {"the longest of 1,000, ms (of 10)", get(control_max), 10.0, less, 1.0}.

%% A backlog at the head, and the time until a datum is through it: relayed with
%% high priority, and not.
priority(_) ->
    N = 100_000,
    Self = self(),
    Receiver = spawn_link(fun() -> last(Self) end),
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([native(a, pass), native(b, pass), native(c, pass)]),
        (options())#{max_queue => 2 * N, window => 100, receiver => Receiver}
    ),
    Through = fun(Send) ->
        median(fun() ->
            ok = sys:suspend(Head),
            send(Head, N),
            #{queue := N} = coop:info(Head),
            Send(),
            Time = timed(fun() ->
                ok = sys:resume(Head),
                receive last -> ok end
            end),
            ok = coop:flush(Head, infinity),
            put(time, Time)
        end, fun() -> get(time) end)
    end,
    Ours = Through(fun() -> ok = coop:relay_high_priority_data(Head, last) end),
    Theirs = Through(fun() -> ok = coop:relay_data(Head, last) end),
    true = coop:is_live(Head),
    coop:stop(Head),
    {"priority through a backlog of 100,000, ms", Ours / 1000, Theirs / 1000, less, 10.0}.

last(To) -> receive last -> To ! last, last(To); _ -> last(To) end.

%% A process that takes nothing is sent messages without end, and another one
%% beside it is asked: what that costs over asking it in peace.
flood(PeerNode) ->
    {ok, Head} = coop:start_link(coop_flow:pipeline([native(echo, echo)]), options()),
    {ok, Flooded} = coop:start_link(coop_flow:pipeline([native(a, pass)]), options()),
    [{echo, Echo}] = maps:get(nodes, coop:info(Head)),
    [{a, Target}] = maps:get(nodes, coop:info(Flooded)),
    ok = sys:suspend(Target),
    Ours = cost_of_flood(Echo, Target),
    coop:stop(Head),
    coop:stop(Flooded),
    Peer = spawn_link(PeerNode, ?MODULE, echo, []),
    Sink = spawn_link(PeerNode, ?MODULE, count, [-1, none]),
    Theirs = cost_of_flood(Peer, Sink),
    {"what a flood adds to a round trip, us", Ours, Theirs, less, 1.0}.

cost_of_flood(Echo, Target) ->
    N = 20,
    InPeace = median(fun() -> ping(Echo, N) end),
    Flooder = spawn_link(fun() -> flood_for_ever(Target) end),
    InFlood = median(fun() -> ping(Echo, N) end),
    unlink(Flooder),
    exit(Flooder, kill),
    (InFlood - InPeace) / N.

flood_for_ever(Target) -> Target ! flood, flood_for_ever(Target).

%%% Helpers

native(Name, Task) -> coop:native(Name, bench_tasks, Task, #{}).

options() -> #{node => ?NODE, receiver => self()}.

%% Of one datum that a source makes N of, until the sink has them all.
through(Head, N) ->
    Time = median(fun() ->
        ok = coop:relay_data(Head, N),
        ok = coop:flush(Head, infinity),
        receive N -> ok end
    end),
    coop:stop(Head),
    Time.

relay(_, 0) -> ok;
relay(Head, N) -> ok = coop:relay_data(Head, N), relay(Head, N - 1).

timed(Fun) -> element(1, timer:tc(Fun)).

waits_for_credit(Pid) ->
    {current_stacktrace, Stack} = process_info(Pid, current_stacktrace),
    lists:keymember(coop_credit, 1, Stack)
        andalso process_info(Pid, status) =:= {status, waiting}.

wait_until(Fun) -> Fun() orelse receive after 1 -> wait_until(Fun) end.

send(_, 0) -> ok;
send(To, N) -> To ! N, send(To, N - 1).

-spec count(non_neg_integer(), {pid(), term()}) -> ok.
count(0, {To, Ref}) -> To ! Ref, ok;
count(N, Report) -> receive _ -> count(N - 1, Report) end.

-spec echo() -> no_return().
echo() -> receive {From, Message} -> From ! Message, echo() end.

-spec stage(pid()) -> ok.
stage(To) ->
    receive
        stop -> To ! stop, ok;
        {burst, N} -> send(To, N);
        Message -> To ! Message, stage(To)
    end.

drain(0) -> ok;
drain(N) -> receive I when is_integer(I) -> drain(N - 1) end.

ping(_, 0) -> ok;
ping(To, N) -> To ! {self(), N}, receive N -> ping(To, N - 1) end.

median(Fun) ->
    median(fun() -> put(time, element(1, timer:tc(Fun))) end, fun() -> get(time) end).

%% ... of what Time/0 says after each round.
median(Fun, Time) ->
    Fun(),
    Times = lists:sort([begin Fun(), Time() end || _ <- lists:seq(1, ?ROUNDS)]),
    lists:nth((?ROUNDS + 1) div 2, Times).

print({What, Ours, Theirs, Better, Aim}) ->
    Ratio = case Better of less -> Theirs / max(Ours, 0.001); more -> Ours / Theirs end,
    io:format("~-44ts ~12.1f ~12.1f ~8.2f ~8.2f ~ts~n", [
        What, float(Ours), float(Theirs), Ratio, Aim,
        case Ratio >= Aim of true -> "ok"; false -> "miss" end
    ]).

%%% All on one core: two idle virtual cores waking each other hide everything.

pin(OsPids) ->
    lists:foreach(
        fun(OsPid) -> os:cmd("taskset -a -p -c 0 " ++ integer_to_list(OsPid)) end, OsPids
    ).

own_pid() -> list_to_integer(os:getpid()).
peer_pid(PeerNode) -> list_to_integer(erpc:call(PeerNode, os, getpid, [])).
node_pid() -> list_to_integer(erpc:call(esp_node:node(?NODE), os, getpid, [])).

resident() ->
    {ok, Status} = file:read_file(["/proc/", integer_to_list(node_pid()), "/status"]),
    {match, [Kb]} = re:run(Status, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, binary}]),
    binary_to_integer(Kb) * 1024.
