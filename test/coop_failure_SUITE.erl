%% Bodies that are restarted: what becomes of the data inside, and that nothing
%% else is left of those that ended. Each case over native, Erlang and mixed
%% co-ops.
%%
%% KILLS=1000 is the length of each storm; the default keeps to some seconds.
-module(coop_failure_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2]).
-export([log/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, mailbox/0, down/1]).

-define(C_NODE, t_failure).
-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 60 + kills()}}].

all() ->
    [{group, G} || G <- kinds() ++ [native_alone, erlang_alone]].

kinds() -> [native, erlang, erlang_head, native_head].

groups() ->
    [
        {native_alone, [], [
            ill_typed_data_go_to_the_dead_letter,
            an_exit_of_the_tasks_own_is_a_reason_to_restart,
            a_blocked_task_is_killed_and_what_waits_goes_on,
            a_runaway_task_is_given_up_and_what_waits_goes_on,
            results_in_a_batch_of_a_runaway_are_dead_letters,
            a_task_on_the_thread_of_a_runaway_is_not_waited_for,
            a_segfault_ends_the_head_and_the_supervisor_brings_it_back,
            a_stack_overflow_ends_the_head_and_the_supervisor_brings_it_back
        ]},
        {erlang_alone, [], [
            a_task_that_does_not_return_is_killed_and_counted,
            an_init_that_goes_on_failing_ends_the_coop,
            a_call_that_has_not_entered_hears_of_no_restart,
            a_crash_says_how_many_data_waited_behind_it,
            what_was_lost_counts_though_the_next_body_fails
        ]}
        | [
            {Kind, [], [
                every_datum_is_delivered_dead_lettered_or_counted,
                so_is_every_datum_whose_result_is_in_a_batch,
                what_is_asked_for_is_neither_lost_nor_doubled,
                what_is_asked_for_in_batches_is_neither_lost_nor_doubled,
                a_crash_buries_what_was_in_hand_and_no_other,
                the_head_keeps_what_it_is_known_by,
                calls_and_flushes_inside_hear_of_it,
                too_many_restarts_end_the_coop_with_the_reason,
                the_end_says_how_many_data_were_inside,
                an_orderly_end_says_nothing,
                a_shutdown_in_the_middle_leaves_nothing
            ]}
         || Kind <- kinds()
        ]
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(Kind, Config) -> [{kind, Kind} | Config].
end_per_group(_, _) -> ok.

kills() ->
    list_to_integer(os:getenv("KILLS", "60")).

%% Kills that meet a task at work. A few on a machine that is busy with something
%% else may come late to it; that is no matter of the co-op's.
least_in_ten() ->
    case os:getenv("KILLS") of
        false -> 7;
        _ -> 9
    end.

%%% Co-ops

opts() ->
    #{
        node => ?C_NODE,
        receiver => self(),
        dead_letter => self(),
        window => 8,
        restart => {body, #{intensity => 1_000_000, period => 1}}
    }.

start(Nodes, More) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(coop_flow:pipeline(Nodes), maps:merge(opts(), More)),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    receive
        {'EXIT', Coop, normal} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end.

%% Each tells of each datum that it works at, for some milliseconds.
worker(toil, Name) -> coop:native(Name, toil, toil, #{args => {self(), Name, 10_000}});
worker(drowse, Name) -> coop:native(Name, toil, drowse, #{args => {self(), Name, 10_000}});
worker(erlang, Name) -> coop:task(Name, at_work(self(), Name), #{}).

at_work(To, Name) ->
    fun(S, Datum) ->
        To ! {at_work, Name, self()},
        spin_until(erlang:monotonic_time(microsecond) + 10_000),
        {S, Datum}
    end.

spin_until(Until) ->
    erlang:monotonic_time(microsecond) < Until andalso spin_until(Until).

workers(native) -> [toil, drowse, toil, drowse];
workers(erlang) -> [erlang, erlang, erlang];
workers(erlang_head) -> [erlang, toil, drowse, erlang];
workers(native_head) -> [drowse, erlang, toil, erlang].

%%% Storms

every_datum_is_delivered_dead_lettered_or_counted(Config) ->
    accounts_for_all(Config, #{}, kills()).

so_is_every_datum_whose_result_is_in_a_batch(Config) ->
    accounts_for_all(Config, #{batch => 4}, kills() div 3).

accounts_for_all(Config, More, Kills) ->
    Kinds = workers(proplists:get_value(kind, Config)),
    %% what is kept for reuse is there after a few
    _ = storm(Kinds, 10, More),
    Before = left(),
    {Sent, Delivered, Dead, #{lost := Lost, dead_lettered := DeadLettered}, Busy} = storm(
        Kinds, Kills, More
    ),
    ct:pal("~p sent, ~p delivered, ~p dead, ~p lost, ~p of ~p kills in a task", [
        Sent, length(Delivered), length(Dead), Lost, Busy, Kills
    ]),
    DeadLettered = length(Dead),
    {Sent, Sent} = {Sent, length(Delivered) + DeadLettered + Lost},
    %% each at most once, and in order
    Delivered = lists:usort(Delivered),
    [] = ordsets:intersection(Delivered, lists:sort(Dead)),
    {true, _} = {Busy * 10 >= Kills * least_in_ten(), Busy},
    nothing_left(Before).

what_is_asked_for_is_neither_lost_nor_doubled(Config) ->
    demand_storm(Config, #{}).

what_is_asked_for_in_batches_is_neither_lost_nor_doubled(Config) ->
    demand_storm(Config, #{batch => 4}).

demand_storm(Config, More) ->
    Kinds = workers(proplists:get_value(kind, Config)),
    {Collector, Collected} = spawn_monitor(fun() -> collect([], []) end),
    Names = lists:sublist([a, b, c, d], length(Kinds)),
    Coop = start(
        [worker(Kind, Name) || {Kind, Name} <- lists:zip(Kinds, Names)],
        More#{receiver => {demand, Collector}, dead_letter => Collector}
    ),
    {Feeder, Fed} = spawn_monitor(fun() -> feed(Coop, 1) end),
    %% enough for what can be lost on the way to the next kill
    [
        begin
            ok = coop:ask(Coop, 10),
            kill_one_of(Names, Coop)
        end
     || _ <- lists:seq(1, kills() div 3)
    ],
    Asked = 10 * (kills() div 3),
    eventually(all_delivered, fun() ->
        case delivered(Collector) of
            Asked -> true;
            N -> {N, Asked, coop:info(Coop)}
        end
    end),
    eventually(more_ready, fun() ->
        #{demand := Demand} = coop:info(Coop),
        maps:get(asked, Demand) =:= 0 andalso maps:get(ready, Demand) > 0
    end),
    Asked = delivered(Collector),
    ok = coop:ask(Coop, 1 bsl 30),
    Feeder ! stop,
    {sent, Sent} = outcome(Fed),
    ok = coop:flush(Coop, infinity),
    #{losses := #{lost := Lost, dead_lettered := DeadLettered}, dropped := 0} = coop:info(Coop),
    Collector ! stop,
    {collected, Delivered, Dead} = outcome(Collected),
    ct:pal("~p sent, ~p delivered, ~p dead, ~p lost", [Sent, length(Delivered), length(Dead), Lost]),
    DeadLettered = length(Dead),
    {Sent, Sent} = {Sent, length(Delivered) + DeadLettered + Lost},
    Delivered = lists:usort(Delivered),
    [] = ordsets:intersection(Delivered, lists:sort(Dead)),
    stop(Coop),
    _ = mailbox(),
    ok.

delivered(Collector) ->
    Ref = make_ref(),
    Collector ! {count, self(), Ref},
    esp_test_lib:take(delivered, Ref).

%% {Sent, Delivered, DeadLetters, Losses, Kills that hit a task}
storm(Kinds, Kills, More) ->
    {Collector, Collected} = spawn_monitor(fun() -> collect([], []) end),
    Names = lists:sublist([a, b, c, d], length(Kinds)),
    Coop = start(
        [worker(Kind, Name) || {Kind, Name} <- lists:zip(Kinds, Names)],
        More#{receiver => Collector, dead_letter => Collector}
    ),
    {Feeder, Fed} = spawn_monitor(fun() -> feed(Coop, 1) end),
    Busy = lists:sum([kill_one_of(Names, Coop) || _ <- lists:seq(1, Kills)]),
    Feeder ! stop,
    {sent, Sent} = outcome(Fed),
    ok = coop:flush(Coop, infinity),
    #{losses := Losses, restarts := Kills, dropped := 0} = coop:info(Coop),
    Collector ! stop,
    {collected, Delivered, Dead} = outcome(Collected),
    stop(Coop),
    _ = mailbox(),
    {Sent, Delivered, Dead, Losses, Busy}.

%% So slowly that what waits at the head at the end is not much.
feed(Coop, N) ->
    ok = coop:relay_data(Coop, N),
    N rem 20 =/= 0 orelse
        eventually(fewer_at_the_head, fun() -> maps:get(queue, coop:info(Coop)) < 20 end),
    receive
        stop -> exit({sent, N})
    after 0 -> feed(Coop, N + 1)
    end.

collect(Delivered, Dead) ->
    receive
        {coop_dead_letter, _, _, Datum, _} -> collect(Delivered, [Datum | Dead]);
        {coop_batch, _, Batch} -> collect(lists:reverse(Batch, Delivered), Dead);
        Datum when is_integer(Datum) -> collect([Datum | Delivered], Dead);
        {count, From, Ref} ->
            From ! {delivered, Ref, length(Delivered)},
            collect(Delivered, Dead);
        stop -> exit({collected, lists:reverse(Delivered), Dead})
    end.

outcome(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, Reason} -> Reason
    after ?LIMIT -> ct:fail({waited_in_vain_for, Monitor})
    end.

%% Once it says that it is at work; 1 if a datum was in some task's hands. The
%% next one waits until the body has been made again.
kill_one_of(Names, Coop) ->
    #{restarts := Restarts, losses := Losses} = coop:info(Coop),
    _ = mailbox(),
    Name = lists:nth(rand:uniform(length(Names)), Names),
    receive
        {at_work, Name, Pid} -> exit(Pid, lists:nth(rand:uniform(3), [kill, kill, boom]))
    after ?LIMIT -> ct:fail({not_at_work, Name})
    end,
    restarted(Coop, Restarts + 1),
    case coop:info(Coop) of
        #{losses := Losses} -> 0;
        #{} -> 1
    end.

%%% What is left

left() ->
    #{
        there => esp_test_c_node:processes(?C_NODE),
        here => erlang:system_info(process_count),
        ports => erlang:system_info(port_count),
        descriptors => descriptors(),
        resident => resident()
    }.

nothing_left(#{there := There, here := Here, ports := Ports} = Before) ->
    esp_test_c_node:settled(?C_NODE, There),
    eventually(processes_gone, fun() -> erlang:system_info(process_count) =< Here end),
    Ports = erlang:system_info(port_count),
    Descriptors = maps:get(descriptors, Before),
    Descriptors = descriptors(),
    Grown = resident() - maps:get(resident, Before),
    Grown < 16 * 1024 orelse ct:fail({grown_by_kb, Grown}),
    ok.

os_pid() ->
    [Pid] = esp_test_lib:os_pids(?C_NODE),
    Pid.

descriptors() ->
    {ok, Names} = file:list_dir("/proc/" ++ os_pid() ++ "/fd"),
    length(Names).

resident() ->
    esp_test_dist:memory(#{os_pid => list_to_integer(os_pid())}) div 1024.

%%% One end at a time

%% `b' does what the datum says, in the one home or the other; two that pass on.
shape(Kind) when Kind =:= native; Kind =:= erlang_head ->
    %% with an edge inside the C-node, wherever the head is
    [pass(Kind, a), coop:native(b, throws, act, #{}), pass(native, c)];
shape(Kind) ->
    [pass(Kind, a), coop:task(b, fun act/2, #{}), pass(Kind, c)].

pass(Kind, Name) when Kind =:= native; Kind =:= native_head -> coop:native(Name, sums, same, #{});
pass(_, Name) -> coop:task(Name, fun(S, D) -> {S, D} end, #{}).

act(_, {exit, Reason}) -> exit(Reason);
act(S, Datum) -> {S, Datum}.

%% A datum that blocks in `b', or whichever is asked to.
gate(Kind, Name) when Kind =:= native; Kind =:= erlang_head ->
    coop:native(Name, blocks, block, #{args => none});
gate(_, Name) ->
    coop:task(
        Name,
        fun
            (S, {sleep, To}) ->
                To ! {sleeping, self()},
                receive
                    never -> {S}
                end;
            (S, D) ->
                {S, D}
        end,
        #{}
    ).

start_kind(Config, More) ->
    start(shape(proplists:get_value(kind, Config)), More).

pid(Coop, Name) ->
    #{nodes := Nodes} = coop:info(Coop),
    proplists:get_value(Name, Nodes).

restarted(Coop, N) ->
    eventually({restarted, N}, fun() -> maps:get(restarts, coop:info(Coop)) =:= N end).

relay(Coop, Data) ->
    [ok = coop:relay_data(Coop, D) || D <- Data],
    ok.

%% Results and dead letters, when all that was relayed is out.
all_out(Coop) ->
    ok = coop:flush(Coop, ?LIMIT),
    lists:partition(fun(Message) -> not is_letter(Message) end, mailbox()).

is_letter({coop_dead_letter, _, _, _, _}) -> true;
is_letter(_) -> false.

a_crash_buries_what_was_in_hand_and_no_other(Config) ->
    Coop = start_kind(Config, #{window => 100}),
    relay(Coop, lists:seq(1, 50) ++ [{exit, boom}] ++ lists:seq(51, 100)),
    restarted(Coop, 1),
    {Results, Dead} = all_out(Coop),
    Crashed = {coop_dead_letter, Coop, b, {exit, boom}, boom},
    true = lists:member(Crashed, Dead),
    %% its neighbours may have had one in hand
    InHand = [D || {coop_dead_letter, Head, Name, D, boom} <- Dead -- [Crashed], Head =:= Coop, Name =/= b],
    true = length(InHand) =< 2,
    {Results, Results} = {lists:seq(1, 100) -- InHand, Results},
    N = length(InHand) + 1,
    N = length(Dead),
    #{losses := #{lost := 0, dead_lettered := N}} = coop:info(Coop),
    stop(Coop).

the_head_keeps_what_it_is_known_by(Config) ->
    Coop = start_kind(Config, #{name => t_failing}),
    Ref = monitor(process, Coop),
    ok = sys:statistics(Coop, true),
    Before = coop:info(Coop),
    relay(Coop, [1, {exit, boom}]),
    restarted(Coop, 1),
    {ok, 2} = coop:call(t_failing, 2, ?LIMIT),
    {ok, [_ | _]} = sys:statistics(Coop, get),
    After = coop:info(Coop),
    [same = same(maps:get(Key, Before), maps:get(Key, After)) || Key <- [switches, edges, home]],
    [] = [Pid || {_, Pid} <- maps:get(nodes, Before), {_, Same} <- maps:get(nodes, After), Pid =:= Same],
    [] = [Down || {'DOWN', R, _, _, _} = Down <- mailbox(), R =:= Ref],
    demonitor(Ref, [flush]),
    stop(Coop).

same(X, X) -> same.

calls_and_flushes_inside_hear_of_it(Config) ->
    Kind = proplists:get_value(kind, Config),
    Coop = start([pass(Kind, a), gate(Kind, b), pass(Kind, c)], #{}),
    relay(Coop, [{sleep, self()}]),
    Pid = receive {sleeping, P} -> P after ?LIMIT -> ct:fail(not_sleeping) end,
    Ask = fun(Fun) -> spawn_monitor(fun() -> exit({answer, Fun()}) end) end,
    {_, Called} = Ask(fun() -> coop:call(Coop, 1, infinity) end),
    {_, Flushed} = Ask(fun() -> coop:flush(Coop, infinity) end),
    eventually(both_inside, fun() -> inside(Coop) =:= 2 end),
    exit(Pid, kill),
    [{answer, {error, {restarted, killed}}} = down(R) || R <- [Called, Flushed]],
    ok = coop:flush(Coop, ?LIMIT),
    {ok, 3} = coop:call(Coop, 3, ?LIMIT),
    #{restarts := 1, losses := #{lost := Lost, dead_lettered := Dead}} = coop:info(Coop),
    true = Lost + Dead >= 1,
    stop(Coop),
    _ = mailbox().

%% What waits at `b', the barrier included.
inside(Coop) ->
    #{queue := N, control := M} = sleeping_info(pid(Coop, b)),
    N + M.

%% An Erlang task that blocks answers nobody.
sleeping_info(Pid) when node(Pid) =:= node() ->
    {message_queue_len, N} = process_info(Pid, message_queue_len),
    #{queue => N, control => 0};
sleeping_info(Pid) ->
    {message_queue_len, N} = erpc:call(node(Pid), erlang, process_info, [Pid, message_queue_len]),
    #{queue => N, control => 0}.

too_many_restarts_end_the_coop_with_the_reason(Config) ->
    Before = esp_test_c_node:processes(?C_NODE),
    Coop = start_kind(Config, #{restart => {body, #{intensity => 2, period => 1000}}}),
    [
        begin
            relay(Coop, [{exit, {boom, N}}]),
            restarted(Coop, N)
        end
     || N <- [1, 2]
    ],
    relay(Coop, [{exit, {boom, 3}}]),
    receive
        {'EXIT', Coop, {boom, 3}} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end,
    _ = mailbox(),
    esp_test_c_node:settled(?C_NODE, Before).

%% As a logger handler: what co-ops say at their end.
log(#{level := error, msg := {report, #{label := {coop, terminated}} = Report}}, #{config := To}) ->
    To ! {terminated, Report};
log(_, _) ->
    ok.

logged(Fun) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self(), filter_default => log}),
    try
        Fun()
    after
        ok = logger:remove_handler(?MODULE)
    end.

%% `a' sleeps over the first datum, and the others wait.
asleep(Config, Restart) ->
    Kind = proplists:get_value(kind, Config),
    Coop = start([gate(Kind, a), pass(Kind, b)], #{restart => Restart, window => 100}),
    relay(Coop, [{sleep, self()} | lists:seq(1, 20)]),
    Pid = receive {sleeping, P} -> P after ?LIMIT -> ct:fail(not_sleeping) end,
    Kind =/= native orelse
        eventually(waiting, fun() -> maps:get(queue, sleeping_info(Pid)) =:= 20 end),
    {Coop, Pid}.

the_end_says_how_many_data_were_inside(Config) ->
    IsNative = proplists:get_value(kind, Config) =:= native,
    logged(fun() ->
        [
            begin
                {Coop, Pid} = asleep(Config, Restart),
                exit(Pid, boom),
                receive
                    {terminated, #{head := Coop, name := undefined, reason := boom, data := {at_least, N}}} ->
                        true = N =:= Inside orelse not IsNative andalso N < Inside
                after ?LIMIT -> ct:fail(nothing_said)
                end,
                receive
                    {'EXIT', Coop, boom} -> ok
                after ?LIMIT -> ct:fail(still_there)
                end
            end
            %% of a body that may be restarted the one in hand is a dead letter
         || {Restart, Inside} <- [{none, 21}, {{body, #{intensity => 0}}, 20}]
        ]
    end),
    [] = [Report || {terminated, Report} <- mailbox()],
    ok.

an_orderly_end_says_nothing(Config) ->
    logged(fun() ->
        [
            begin
                {Coop, _} = asleep(Config, none),
                unlink(Coop),
                Ref = monitor(process, Coop),
                ok = coop:stop(Coop, Reason, ?LIMIT),
                Reason = down(Ref)
            end
         || Reason <- [normal, shutdown, {shutdown, done}]
        ],
        %% it would have come by now: this one does
        {Coop, Pid} = asleep(Config, none),
        exit(Pid, boom),
        receive
            {terminated, #{head := Coop}} -> ok
        after ?LIMIT -> ct:fail(nothing_said)
        end
    end),
    [] = [Report || {terminated, Report} <- mailbox()],
    ok.

%% The order to end comes while one body falls or another is made.
a_shutdown_in_the_middle_leaves_nothing(Config) ->
    Before = esp_test_c_node:processes(?C_NODE),
    Here = erlang:system_info(process_count),
    Kind = proplists:get_value(kind, Config),
    [
        begin
            {ok, Sup} = supervisor:start_link(
                esp_test_sup,
                {#{}, [
                    coop:child_spec((opts())#{
                        id => x, template => coop_flow:pipeline(shape(Kind)), shutdown => ?LIMIT
                    })
                ]}
            ),
            [{x, Coop, _, _}] = supervisor:which_children(Sup),
            exit(pid(Coop, lists:nth(I rem 3 + 1, [a, b, c])), kill),
            I rem 2 =:= 0 andalso erlang:yield(),
            ok = supervisor:terminate_child(Sup, x),
            unlink(Sup),
            Ref = monitor(process, Sup),
            exit(Sup, shutdown),
            shutdown = down(Ref)
        end
     || I <- lists:seq(1, 10)
    ],
    esp_test_c_node:settled(?C_NODE, Before),
    eventually(processes_gone, fun() -> erlang:system_info(process_count) =< Here end).

%%% Native alone

ill_typed_data_go_to_the_dead_letter(_) ->
    Coop = start([coop:native(a, sums, plus1, #{})], #{}),
    relay(Coop, [1, not_a_number, 2]),
    restarted(Coop, 1),
    {[2, 3], [{coop_dead_letter, Coop, a, not_a_number, {function_clause, [_ | _]}}]} = all_out(Coop),
    stop(Coop).

an_exit_of_the_tasks_own_is_a_reason_to_restart(_) ->
    Coop = start([coop:native(a, throws, act, #{})], #{}),
    relay(Coop, [1, {exit, normal}, {runtime_error, <<"what">>}, 2]),
    restarted(Coop, 2),
    {[1, 2], [
        {coop_dead_letter, Coop, a, {exit, normal}, normal},
        {coop_dead_letter, Coop, a, {runtime_error, <<"what">>}, {{cpp_exception, _, <<"what">>}, _}}
    ]} = all_out(Coop),
    stop(Coop).

a_blocked_task_is_killed_and_what_waits_goes_on(_) ->
    Coop = start([coop:native(a, blocks, block, #{args => none})], #{}),
    [
        begin
            relay(Coop, [{sleep, self()}, 1]),
            Pid = receive {sleeping, P} -> P after ?LIMIT -> ct:fail(not_sleeping) end,
            exit(Pid, Reason),
            restarted(Coop, N),
            {[1], [{coop_dead_letter, Coop, a, {sleep, _}, Seen}]} = all_out(Coop)
        end
     || {N, Reason, Seen} <- [{1, kill, killed}, {2, boom, boom}]
    ],
    stop(Coop).

%% It runs on for longer than anyone waits, and what it returns is nobody's.
a_runaway_task_is_given_up_and_what_waits_goes_on(_) ->
    Coop = start([coop:native(a, spins, spin, #{}), coop:native(b, sums, same, #{})], #{}),
    [
        begin
            relay(Coop, [{spin, self(), 4000}, 1, 2]),
            Pid = receive {spinning, P} -> P after ?LIMIT -> ct:fail(not_spinning) end,
            exit(Pid, Reason),
            restarted(Coop, N),
            {[1, 2], [{coop_dead_letter, Coop, a, {spin, _, 4000}, Seen}]} = all_out(Coop)
        end
     || {N, Reason, Seen} <- [{1, kill, killed}, {2, boom, boom}]
    ],
    #{losses := #{lost := 0, dead_lettered := 2}} = coop:info(Coop),
    stop(Coop).

results_in_a_batch_of_a_runaway_are_dead_letters(_) ->
    Coop = start([coop:native(a, spins, spin, #{})], #{batch => 10}),
    Node = pid(Coop, a),
    ok = sys:suspend(Node),
    relay(Coop, [1, 2, {spin, self(), 4000}]),
    eventually(all_there, fun() ->
        maps:get(queue, coop_process:ask(Node, info, ?LIMIT)) =:= 3
    end),
    ok = sys:resume(Node),
    receive {spinning, Node} -> ok after ?LIMIT -> ct:fail(not_spinning) end,
    exit(Node, boom),
    restarted(Coop, 1),
    {[], Dead} = all_out(Coop),
    [1, 2, {spin, _, 4000}] = [D || {coop_dead_letter, _, a, D, boom} <- Dead],
    #{losses := #{lost := 0, dead_lettered := 3}} = coop:info(Coop),
    stop(Coop).

%% The only worker has the fibers of `parked' tasks and is in another co-op's task
%% for longer than anyone waits; stand-ins do the rest.
a_task_on_the_thread_of_a_runaway_is_not_waited_for(_) ->
    One = esp_test_c_node:start(t_failure_one, #{workers => 1}),
    Node = #{node => t_failure_one},
    Parked = fun(More) ->
        Coop = start([coop:native(a, blocks, block, #{args => none})], maps:merge(Node, More)),
        relay(Coop, [{sleep, self()}, 1]),
        receive {sleeping, Pid} -> {Coop, Pid} after ?LIMIT -> ct:fail(not_sleeping) end
    end,
    {Restarted, Pid1} = Parked(#{}),
    {Ended, Pid2} = Parked(#{restart => none}),
    Runaway = start([coop:native(a, spins, spin, #{})], Node),
    relay(Runaway, [{spin, self(), 8000}]),
    receive {spinning, _} -> ok after ?LIMIT -> ct:fail(not_spinning) end,
    exit(Pid1, boom),
    exit(Pid2, boom),
    receive
        {'EXIT', Ended, boom} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end,
    restarted(Restarted, 1),
    {[1], [{coop_dead_letter, Restarted, a, {sleep, _}, boom}]} = all_out(Restarted),
    [stop(Coop) || Coop <- [Restarted, Runaway]],
    esp_test_c_node:stop(One).

a_segfault_ends_the_head_and_the_supervisor_brings_it_back(_) ->
    comes_back_after(segfault).

a_stack_overflow_ends_the_head_and_the_supervisor_brings_it_back(_) ->
    comes_back_after(overflow).

comes_back_after(Fault) ->
    %% by its file, so that the start sees to it that it is loaded again
    Plugin = esp_test_c_node:plugin(faults),
    Child = coop:child_spec((opts())#{
        id => x, template => coop_flow:pipeline([coop:native(a, Plugin, act, #{})])
    }),
    {ok, Sup} = supervisor:start_link(esp_test_sup, {#{}, [Child]}),
    [{x, Coop, _, _}] = supervisor:which_children(Sup),
    Ref = monitor(process, Coop),
    relay(Coop, [Fault]),
    noconnection = down(Ref),
    eventually(back, fun() ->
        case supervisor:which_children(Sup) of
            [{x, Pid, _, _}] when is_pid(Pid), Pid =/= Coop -> coop:call(Pid, 1, ?LIMIT) =:= {ok, 1};
            _ -> false
        end
    end),
    unlink(Sup),
    Gone = monitor(process, Sup),
    exit(Sup, shutdown),
    shutdown = down(Gone),
    _ = mailbox(),
    ok.

%%% Erlang alone

a_task_that_does_not_return_is_killed_and_counted(_) ->
    Coop = start([pass(erlang, a), gate(erlang, b), coop:task(c, fun act/2, #{})], #{}),
    relay(Coop, [{sleep, self()}, 1, 2]),
    receive {sleeping, _} -> ok after ?LIMIT -> ct:fail(not_sleeping) end,
    pid(Coop, c) ! {exit, boom},
    restarted(Coop, 1),
    {[], [{coop_dead_letter, Coop, c, {exit, boom}, boom}]} = all_out(Coop),
    #{losses := #{lost := 3, dead_lettered := 1}} = coop:info(Coop),
    stop(Coop).

an_init_that_goes_on_failing_ends_the_coop(_) ->
    Inits = counters:new(1, []),
    Init = fun() ->
        counters:add(Inits, 1, 1),
        counters:get(Inits, 1) =:= 1 orelse exit(no_luck)
    end,
    Coop = start(
        [pass(erlang, a), coop:task(b, fun act/2, #{init => Init})],
        #{restart => {body, #{intensity => 3, period => 1000}}}
    ),
    relay(Coop, [{exit, boom}]),
    receive
        {'EXIT', Coop, {init, b, no_luck}} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end,
    %% the first start and three restarts
    4 = counters:get(Inits, 1),
    _ = mailbox().

%% One of two entry nodes is at work and has no room, the other is idle.
a_call_that_has_not_entered_hears_of_no_restart(_) ->
    process_flag(trap_exit, true),
    Template = coop_flow:graph([gate(erlang, a), pass(erlang, b)], []),
    {ok, Coop} = coop:start_link(Template, (opts())#{window => 1, receiver => none}),
    relay(Coop, [{sleep, self()}]),
    receive {sleeping, _} -> ok after ?LIMIT -> ct:fail(not_sleeping) end,
    relay(Coop, [1]),
    {_, Called} = spawn_monitor(fun() -> exit(coop:call(Coop, 2, ?LIMIT)) end),
    eventually(at_the_head, fun() ->
        #{in := In, queue := Queue} = coop:info(Coop),
        In + Queue =:= 3
    end),
    exit(pid(Coop, a), kill),
    {ok, 2} = down(Called),
    #{restarts := 1} = coop:info(Coop),
    stop(Coop),
    _ = mailbox().

%% It was the first of 21, and knows of all that had reached it.
a_crash_says_how_many_data_waited_behind_it(_) ->
    logged(fun() ->
        Coop = start([coop:task(a, fun act/2, #{})], #{restart => none, window => 100}),
        Node = pid(Coop, a),
        ok = sys:suspend(Node),
        relay(Coop, [{exit, boom} | lists:seq(1, 20)]),
        eventually(there, fun() ->
            maps:get(queue, coop_process:ask(Node, info, ?LIMIT)) =:= 21
        end),
        ok = sys:resume(Node),
        receive
            {terminated, #{head := Coop, data := Data}} -> {at_least, 21} = Data
        after ?LIMIT -> ct:fail(nothing_said)
        end
    end),
    _ = mailbox().

what_was_lost_counts_though_the_next_body_fails(_) ->
    Inits = counters:new(1, []),
    Init = fun() ->
        counters:add(Inits, 1, 1),
        counters:get(Inits, 1) =/= 2 orelse exit(no_luck)
    end,
    Coop = start([gate(native, a), coop:task(b, fun act/2, #{init => Init})], #{}),
    relay(Coop, [{sleep, self()}, 1]),
    Pid = receive {sleeping, P} -> P after ?LIMIT -> ct:fail(not_sleeping) end,
    exit(Pid, kill),
    restarted(Coop, 1),
    {[1], [{coop_dead_letter, Coop, a, {sleep, _}, killed}]} = all_out(Coop),
    3 = counters:get(Inits, 1),
    #{losses := #{lost := 0, dead_lettered := 1}} = coop:info(Coop),
    stop(Coop).
