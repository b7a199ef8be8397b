%% Signals with priority, as OTP sends them from release 28 on (operation 37,
%% ALTACT_SIG): they go before the data that wait. A peer that is a script sends
%% them here; where this VM is new enough, it does so too.
-module(priority_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_dist, [
    bare/1, fragments/3, frame/3, next/1, pid/2, raw/2, ref/2, send/3, stays/1
]).

-define(LIMIT, 10_000).
-define(PRIORITY, 1).
-define(TOKEN, 2).
-define(NAME, 8).
-define(EXIT, 16).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [{group, by_hand} | [{group, by_this_vm} || has_priority()]].

groups() ->
    [
        {by_hand, [], [
            a_message_goes_before_the_data_that_wait_at_a_head,
            and_at_a_node,
            in_fragments_too,
            without_the_flag_it_waits_its_turn,
            flags_and_elements_of_later_releases_change_nothing,
            to_a_name_it_arrives,
            a_barrier_stays_where_it_is,
            questions_are_answered_as_ever,
            a_task_that_receives_hears_of_it,
            an_exit_ends_a_coop,
            a_node_that_is_made_anew_has_them_first,
            thousands_keep_their_order,
            and_what_may_wait_is_bounded
        ]},
        {by_this_vm, [], [
            a_message_of_this_vm_goes_before_the_data_that_wait,
            to_a_name_of_the_c_node_it_arrives,
            an_exit_of_this_vm_ends_a_coop
        ]}
    ].

has_priority() ->
    list_to_integer(erlang:system_info(otp_release)) >= 28.

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    Folder = filename:dirname(esp_test_lib:plugin()),
    Plugins = [["--plugin", filename:join(Folder, P)] || P <- ["sums.so", "talks.so"]],
    CNode = esp_test_dist:start_c_node('priority@127.0.0.1', lists:append(Plugins)),
    true = net_kernel:hidden_connect_node(esp_test_dist:name(CNode)),
    [{started, Started}, {c_node, CNode} | Config].

end_per_suite(Config) ->
    esp_test_dist:stop_c_node(c_node(Config)),
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

c_node(Config) -> proplists:get_value(c_node, Config).

%% A co-op of one node, to this process.
start(Config) -> start(Config, {sums, same}, #{}).

start(Config, {Plugin, Task}, Options) ->
    Template = coop_flow:pipeline([coop:native(node, Plugin, Task, #{})]),
    {ok, Coop} = coop:start_link(Template, Options#{
        node => esp_test_dist:name(c_node(Config)), receiver => self()
    }),
    Coop.

node_of(Coop) ->
    #{nodes := [{node, Pid}]} = coop:info(Coop),
    Pid.

dial(Config) ->
    Name = lists:concat(["pr", erlang:unique_integer([positive]), "@127.0.0.1"]),
    esp_test_dist:dial(c_node(Config), list_to_atom(Name)).

%%% By hand

%% Sends to a process at rest what Send(Peer, From, Message) is to send early.
comes(Config, To, Send) ->
    Peer = dial(Config),
    From = pid(Peer, 1),
    ok = sys:suspend(To),
    [ok = send(Peer, {22, From, To}, N) || N <- [1, 2]],
    ok = Send(Peer, From, early),
    ok = send(Peer, {22, From, To}, 3),
    ok = Send(Peer, From, later),
    [] = stays(Peer),
    ok = sys:resume(To),
    Came = esp_test_lib:take(5),
    ok = esp_test_dist:close(Peer),
    Came.

a_message_goes_before_the_data_that_wait_at_a_head(Config) ->
    Coop = start(Config),
    Head = coop:head(Coop),
    [early, later, 1, 2, 3] = comes(Config, Head, fun(Peer, From, Message) ->
        send(Peer, {37, ?PRIORITY, From, Head}, Message)
    end),
    ok = coop:stop(Coop).

and_at_a_node(Config) ->
    Coop = start(Config),
    Node = node_of(Coop),
    [early, later, 1, 2, 3] = comes(Config, Node, fun(Peer, From, Message) ->
        Token = {0, 1, 1, From, 0},
        send(Peer, {37, ?PRIORITY bor ?TOKEN, From, Node, Token}, Message)
    end),
    ok = coop:stop(Coop).

in_fragments_too(Config) ->
    Coop = start(Config),
    Head = coop:head(Coop),
    Large = binary:copy(<<"large">>, 50_000),
    [{early, Large}, {later, Large}, 1, 2, 3] = comes(Config, Head, fun(Peer, From, Which) ->
        Signal = [bare({37, ?PRIORITY, From, Head}), bare({Which, Large})],
        raw(Peer, fragments(erlang:unique_integer([positive]), Signal, 65_536))
    end),
    ok = coop:stop(Coop).

without_the_flag_it_waits_its_turn(Config) ->
    Coop = start(Config),
    Head = coop:head(Coop),
    [1, 2, early, 3, later] = comes(Config, Head, fun(Peer, From, Message) ->
        send(Peer, {37, 0, From, Head}, Message)
    end),
    ok = coop:stop(Coop).

flags_and_elements_of_later_releases_change_nothing(Config) ->
    Coop = start(Config),
    Head = coop:head(Coop),
    [early, later, 1, 2, 3] = comes(Config, Head, fun(Peer, From, Message) ->
        send(Peer, {37, (1 bsl 70) bor 64 bor ?PRIORITY, From, Head, new, 28}, Message)
    end),
    ok = coop:stop(Coop).

to_a_name_it_arrives(Config) ->
    Peer = dial(Config),
    From = pid(Peer, 1),
    Ref = ref(Peer, [1, 2, 3]),
    ok = send(Peer, {37, ?PRIORITY bor ?NAME, From, erlangsp}, {'$gen_call', {From, Ref}, plugins}),
    {_, {Ref, Plugins}} = next(Peer),
    true = is_list(Plugins),
    ok = send(Peer, {37, ?PRIORITY bor ?NAME, From, nobody_of_this_name}, lost),
    [] = stays(Peer),
    ok = esp_test_dist:close(Peer).

%% What our processes tell each other has its place among the data.
a_barrier_stays_where_it_is(Config) ->
    Coop = start(Config),
    Head = coop:head(Coop),
    [1, 2, {'$coop', flushed, early, 1}, 3, {'$coop', flushed, later, 1}] =
        comes(Config, Head, fun(Peer, From, Ref) ->
            send(Peer, {37, ?PRIORITY, From, Head}, {'$coop', flush, {self(), Ref}})
        end),
    ok = coop:stop(Coop).

questions_are_answered_as_ever(Config) ->
    Coop = start(Config),
    Peer = dial(Config),
    From = pid(Peer, 1),
    Ref = ref(Peer, [1, 2, 3]),
    [
        begin
            ok = send(Peer, {37, ?PRIORITY, From, To}, {system, {From, Ref}, suspend}),
            {_, {Ref, ok}} = next(Peer),
            ok = send(Peer, {37, ?PRIORITY, From, To}, {system, {From, Ref}, resume}),
            {_, {Ref, ok}} = next(Peer),
            ok = send(Peer, {37, ?PRIORITY, From, To}, {get_modules, From}),
            {_, {modules, [_ | _]}} = next(Peer)
        end
     || To <- esp_test_lib:pids(Coop)
    ],
    ok = esp_test_dist:close(Peer),
    ok = coop:stop(Coop).

a_task_that_receives_hears_of_it(Config) ->
    Coop = start(Config, {talks, talk}, #{}),
    Peer = dial(Config),
    ok = coop:relay_data(Coop, {wait, self()}),
    [{waiting, Node}] = esp_test_lib:take(1),
    ok = send(Peer, {37, ?PRIORITY, pid(Peer, 1), Node}, {go, at_once}),
    [at_once] = esp_test_lib:take(1),
    ok = esp_test_dist:close(Peer),
    ok = coop:stop(Coop).

an_exit_ends_a_coop(Config) ->
    process_flag(trap_exit, true),
    Coop = start(Config),
    Peer = dial(Config),
    From = pid(Peer, 1),
    ok = send(Peer, {37, ?PRIORITY bor ?EXIT, From, coop:head(Coop)}, normal),
    [] = stays(Peer),
    {ok, 1} = coop:call(Coop, 1, ?LIMIT),
    ok = send(Peer, {37, ?PRIORITY bor ?EXIT, From, coop:head(Coop)}, urgent),
    [{'EXIT', Coop, urgent}] = esp_test_lib:take(1),
    ok = esp_test_dist:close(Peer).

a_node_that_is_made_anew_has_them_first(Config) ->
    Coop = start(Config, {talks, talk}, #{restart => body}),
    Peer = dial(Config),
    From = pid(Peer, 1),
    ok = coop:relay_data(Coop, {wait, self()}),
    [{waiting, Node}] = esp_test_lib:take(1),
    [ok = send(Peer, {22, From, Node}, N) || N <- [1, 2]],
    ok = send(Peer, {37, ?PRIORITY, From, Node}, first),
    ok = send(Peer, {22, From, Node}, 3),
    ok = send(Peer, {37, ?PRIORITY, From, Node}, second),
    ok = send(Peer, {26, From, Node}, kill),
    [first, second, 1, 2, 3] = esp_test_lib:take(5),
    ok = esp_test_dist:close(Peer),
    ok = coop:stop(Coop).

thousands_keep_their_order(Config) ->
    Coop = start(Config),
    Head = coop:head(Coop),
    Peer = dial(Config),
    Numbers = lists:seq(1, 5_000),
    ok = sys:suspend(Head),
    ok = send(Peer, {22, pid(Peer, 1), Head}, last),
    ok = raw(Peer, [frame(Peer, {37, ?PRIORITY, pid(Peer, 1), Head}, N) || N <- Numbers]),
    [] = stays(Peer),
    ok = sys:resume(Head),
    Came = esp_test_lib:take(5_001),
    {Came, Came} = {Numbers ++ [last], Came},
    ok = esp_test_dist:close(Peer),
    ok = coop:stop(Coop).

and_what_may_wait_is_bounded(Config) ->
    Coop = start(Config, {sums, same}, #{max_queue => 100, dead_letter => none}),
    Node = node_of(Coop),
    Peer = dial(Config),
    ok = sys:suspend(Node),
    ok = raw(Peer, [frame(Peer, {37, ?PRIORITY, pid(Peer, 1), Node}, N) || N <- lists:seq(1, 300)]),
    [] = stays(Peer),
    #{queue := Kept, dropped := Dropped} = coop_process:ask(Node, info, ?LIMIT),
    {300, true} = {Kept + Dropped, Kept > 0 andalso Kept =< 100},
    ok = sys:resume(Node),
    Came = esp_test_lib:take(Kept),
    {Came, Came} = {lists:usort(Came), Came},
    ok = esp_test_dist:close(Peer),
    ok = coop:stop(Coop).

%%% By this VM; older ones know neither the option nor exit/3

a_message_of_this_vm_goes_before_the_data_that_wait(Config) ->
    Coop = start(Config),
    [
        begin
            ok = sys:suspend(To),
            [To ! N || N <- [1, 2]],
            ok = erlang:send(To, early, [priority]),
            To ! 3,
            ok = erlang:send(To, later, [priority]),
            ok = sys:resume(To),
            [early, later, 1, 2, 3] = esp_test_lib:take(5)
        end
     || To <- [coop:head(Coop), node_of(Coop)]
    ],
    ok = coop:stop(Coop).

to_a_name_of_the_c_node_it_arrives(Config) ->
    Ref = make_ref(),
    Request = {'$gen_call', {self(), Ref}, plugins},
    ok = erlang:send({erlangsp, esp_test_dist:name(c_node(Config))}, Request, [priority]),
    [{Ref, Plugins}] = esp_test_lib:take(1),
    true = is_list(Plugins).

an_exit_of_this_vm_ends_a_coop(Config) ->
    process_flag(trap_exit, true),
    Coop = start(Config),
    true = apply(erlang, exit, [coop:head(Coop), urgent, [priority]]),
    [{'EXIT', Coop, urgent}] = esp_test_lib:take(1).
