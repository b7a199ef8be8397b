%% What `make bench` prints: this project beside the BEAM, peer and project in
%% one run, medians of several rounds, each row with its ratio, the aim and
%% whether it was met. bench/README.md says how each is measured.
-module(esp_bench).

-export([main/0]).
%% on the peer node
-export([count/2, echo/0, stage/1]).

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
        fun one_way_in/1,
        fun one_way_out/1,
        fun round_trip/1,
        fun bytes_per_node/1,
        fun burst/1,
        fun memory_of_burst/1
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
    Ours = median(fun() ->
        ok = coop:relay_data(Head, N),
        ok = coop:flush(Head, infinity),
        receive N -> ok end
    end),
    coop:stop(Head),
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
    {"pipeline of 8 stages, ns a hop", Ours * 1000 / Hops, Theirs * 1000 / Hops, less, 5.0}.

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

burst(_) ->
    {Small, Large} = {10_000, 1_000_000},
    {ok, Head} = coop:start_link(
        coop_flow:pipeline([native(a, pass), native(b, pass), native(sink, sink)]), options()
    ),
    Rate = fun(N) ->
        N * 1.0e6 / median(fun() ->
            [ok = coop:relay_data(Head, I) || I <- lists:seq(1, N)],
            ok = coop:flush(Head, infinity),
            receive N -> ok end
        end)
    end,
    Slow = Rate(Small),
    put(resident, resident()),
    Fast = Rate(Large),
    put(growth, resident() - get(resident)),
    coop:stop(Head),
    {"burst of 1,000,000 beside one of 10,000, data/s", Fast, Slow, more, 0.9}.

memory_of_burst(_) ->
    {"resident growth over that burst, MB (beside 8)", get(growth) / 1.0e6, 8.0, less, 1.0}.

%%% Helpers

native(Name, Task) -> coop:native(Name, bench_tasks, Task, #{}).

options() -> #{node => ?NODE, receiver => self()}.

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
    Fun(),
    Times = lists:sort([element(1, timer:tc(Fun)) || _ <- lists:seq(1, ?ROUNDS)]),
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
