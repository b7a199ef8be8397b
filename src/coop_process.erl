%% What every process of a co-op on a VM has in common: two lanes, edges with
%% credit, the barrier, and the manners of OTP (`sys', `get_modules').
%%
%% The mailbox is drained into a queue of data before each datum is taken, and
%% what is control is handled on the way. So control overtakes data, and each
%% message is looked at once, however long the queue is: a selective receive
%% would walk all the data each time.
%%
%% A process that cannot send a result because its edge has no credit keeps the
%% rest of its results in an outbox, takes no further datum, and goes on
%% answering control. Suspended is the same without an outbox. Nothing here
%% ever waits in a nested receive.
-module(coop_process).

-export([enter_loop/2]).
-export([ask/3]).
-export([log_unexpected/2]).
%% sys
-export([system_continue/3]).
-export([system_terminate/4]).
-export([system_get_state/1]).
-export([system_replace_state/2]).
-export([system_code_change/4]).
-export([format_status/2]).
-export_type([out/0, env/0, barrier/0]).

-compile({inline, [deliver/5]}).

%% How many messages may be drained between two data: without a limit, many
%% senders could keep a process from ever working.
%% What a stranger may have forged is looked at before it is taken in.
-define(IS_UNITS(Units), is_integer(Units), Units >= 0).

-define(DRAIN, 1000).

%% The token is never sent: see coop_token.
-type env() :: [] | #{call => {pid(), term()}, token => coop_token:token()}.
-type barrier() :: {Caller :: pid(), Ref :: term()}.
%% What a datum or a barrier gave: for an edge, for the edges of whichever way is
%% the least loaded by then, for a node that the task has started, for the co-op's
%% receiver, or for nobody, which is why.
-type out() ::
    {
        coop_edges:edge()
        | {any, [coop_dataflow:way()]}
        | {late, pid()}
        | result
        | {lost, Reason :: term()},
        env(),
        term()
    }
    | {start, coop_edges:edge(), pid(), Window :: pos_integer()}
    | {stop, pid()}.
-type entry() ::
    out()
    | {barrier, coop_edges:edge(), pid(), barrier()}
    | {flushed, barrier()}
    | {flushed, By :: pid(), barrier()}
    %% of nodes made late: tell them, wait for them, and what is then the end of it
    | {tell, last | barrier()}
    | late
    | passed
    | good_bye.
-type control() ::
    {ok, coop_edges:edges(), State :: term()}
    | {sink, coop_results:sink(), coop_edges:edges(), State :: term()}
    | {stop, Reason :: term(), State :: term()}
    | unhandled.

%% A datum in the hands of the process; it may crash, which ends the process.
-callback handle_datum(Datum :: term(), env(), State) -> {[out()], State}.
%% The barrier, which is passed on after what this gives; or the end of a node that
%% was made late.
-callback handle_barrier(barrier() | last, State) -> {[out()], State}.
%% Any control message that is not handled here.
-callback handle_control(Message :: term(), coop_edges:edges(), State :: term()) -> control().
%% Whether a 'DOWN' is about a monitor of ours, or a task's and so data.
-callback is_ours(reference(), State :: term()) -> boolean().
-callback info(State :: term()) -> map().
-callback get_state(State :: term()) -> term().
%% A process without these has no state but that of its trade, which is shown
%% and not changed. A head changes its co-op's code, and answers when that is done.
-callback modules(State :: term()) -> [module()].
-callback replace_state(fun((term()) -> term()), State) -> {term(), State}.
-callback code_change(module(), OldVsn :: term(), Extra :: term(), State) ->
    {ok, State} | {error, term()}.
-callback body_change(From :: {pid(), term()}, module(), OldVsn :: term(), Extra :: term()) -> ok.
-optional_callbacks([modules/1, replace_state/2, code_change/4, body_change/4]).
%% The orderly end; may wait.
-callback terminate(Reason :: term(), State :: term()) -> ok.

-record(process, {
    module :: module(),
    state :: term(),
    name :: term(),
    parent :: pid(),
    head :: pid() | undefined,
    debug = [] :: [sys:dbg_opt()],
    status = running :: running | suspended,
    %% the data lane, and what overtakes it
    queue = queue:new() :: queue:queue(),
    urgent = queue:new() :: queue:queue(),
    queued = 0 :: non_neg_integer(),
    plain_bytes = 0 :: non_neg_integer(),
    max_queue :: pos_integer(),
    max_queue_bytes :: pos_integer(),
    edges :: coop_edges:edges(),
    %% which of those that go out have credit when it takes a datum
    needs :: any | all,
    %% edges whose barrier has come, with what came behind it
    held = #{} :: #{coop_edges:edge() => queue:queue()},
    outbox = [] :: [entry()],
    results :: coop_results:results(),
    last_tier :: non_neg_integer(),
    in = 0 :: non_neg_integer(),
    out = 0 :: non_neg_integer(),
    overload = block :: coop_overload:overload(),
    overloaded = 0 :: non_neg_integer(),
    dead_letter = none :: coop_dead_letter:destination(),
    dropped = 0 :: non_neg_integer(),
    dead_lettered = 0 :: non_neg_integer(),
    %% of a body that may be restarted: the datum being worked at, and whether it
    %% came on an edge; how many of those it has taken
    ledger :: coop_ledger:ledger() | undefined,
    %% what it has to do with nodes made late, and whether it is one
    late = none :: none | coop_late:late(),
    is_late :: boolean(),
    hand :: {term(), boolean()} | undefined,
    taken = 0 :: non_neg_integer(),
    %% of a head: who keeps it from sending data on; of a node: its next state, and
    %% who has it wait with that. By the monitor of that one.
    waits = none :: none | {reference(), pid(), held | {next, State :: term()}},
    logged_at :: integer() | undefined
}).

%% @doc Makes the calling process, spawned by proc_lib, one of these. `last_tier'
%% is the number of nodes in the co-op's last tier, which callers of flush need.
-spec enter_loop(module(), map()) -> no_return().
enter_loop(Module, Options) ->
    #{name := Name, parent := Parent, state := State, edges := Edges} = Options,
    Late = maps:get(late, Options, none),
    %% that of who has started the co-op
    _ = coop_token:take(),
    P = #process{
        module = Module,
        state = State,
        name = Name,
        parent = Parent,
        head = maps:get(head, Options, undefined),
        edges = Edges,
        needs = maps:get(needs, Options, any),
        results = maps:get(results, Options, coop_results:new(undefined, none, none)),
        last_tier = maps:get(last_tier, Options, 0),
        overload = maps:get(overload, Options, block),
        dead_letter = maps:get(dead_letter, Options, none),
        max_queue = maps:get(max_queue, Options, 10_000),
        max_queue_bytes = maps:get(max_queue_bytes, Options, 64 * 1024 * 1024),
        ledger = maps:get(ledger, Options, undefined),
        late = Late,
        is_late = Late =/= none andalso coop_late:origin(Late) =/= none
    },
    loop(inherit(maps:get(held, Options, []), order_workers(P))).

%% @doc A request to any process of a co-op, native or not; exits as gen calls do.
-spec ask(pid() | undefined, Request :: term(), timeout()) -> Reply :: term().
ask(undefined, _Request, _Timeout) ->
    exit(noproc);
ask(Pid, Request, Timeout) ->
    {ok, Reply} = gen:call(Pid, '$coop', Request, Timeout),
    Reply.

%% @doc What arrived and is neither data nor understood.
-spec log_unexpected(term(), term()) -> ok.
log_unexpected(Name, Message) ->
    logger:warning(
        "co-op process ~tp ~p dropped an unexpected message: ~tP",
        [Name, self(), Message, 20]
    ).

%%% The loop

loop(P = #process{queued = 0}) ->
    await(P);
loop(P) ->
    drain(?DRAIN, P).

%% A head sends each datum on all its edges, and takes none before it can: what it
%% has taken is inside.
may_work(#process{status = running, waits = none, outbox = [], edges = Edges, needs = Needs}) ->
    coop_edges:has_credit(Needs, Edges);
may_work(_P) ->
    false.

%% Before it waits, results do no longer.
await(P = #process{results = Results}) ->
    case coop_results:may_pause(Results) of
        false ->
            receive
                {system, From, Request} -> system(Request, From, P);
                Message -> loop(received(Message, P))
            end;
        true ->
            receive
                {system, From, Request} -> system(Request, From, P);
                Message -> loop(received(Message, P))
            after 0 -> await(P#process{results = pause(P)})
            end
    end.

drain(0, P) ->
    work(P);
drain(N, P) ->
    receive
        {system, From, Request} -> system(Request, From, P);
        Message -> drain(N - 1, received(Message, P))
    after 0 -> work(P)
    end.

%% All control that is there is known by now.
work(P = #process{urgent = Urgent, queue = Queue, queued = N}) ->
    case may_work(P) andalso queue:out(Urgent) of
        false ->
            await(P);
        {{value, Item}, Urgent2} ->
            loop(take(Item, P#process{urgent = Urgent2, queued = N - 1}));
        {empty, _} ->
            case queue:out(Queue) of
                {{value, Item}, Queue2} ->
                    loop(take(Item, P#process{queue = Queue2, queued = N - 1}));
                {empty, _} ->
                    loop(P)
            end
    end.

%%% Messages in

%% A datum keeps its token; who asks is answered under it; the rest of our talk
%% has none.
received(Message, P) ->
    case coop_token:is_there() of
        false ->
            accept(Message, [], P);
        true ->
            case is_question(Message) of
                true ->
                    P2 = accept(Message, [], P),
                    _ = coop_token:take(),
                    P2;
                false ->
                    accept(Message, coop_token:keep([], coop_token:take()), P)
            end
    end.

is_question({get_modules, _}) -> true;
is_question({Pid, {Pid, _}, get_modules}) -> true;
is_question({'$coop', {_, _}, What}) -> lists:member(What, [info, inside, head]);
is_question(_) -> false.

accept(Message, Env, P) when element(1, Message) =:= '$coop' ->
    accept_ours(with_token(Message, Env), P);
accept({'EXIT', Pid, _Reason} = Message, _Env, P) when is_pid(Pid) ->
    control(Message, P);
accept({get_modules, From}, _Env, P) when is_pid(From) ->
    From ! {modules, modules(P)},
    P;
accept({Pid, {Pid, _Tag} = From, get_modules}, _Env, P) when is_pid(Pid) ->
    gen:reply(From, modules(P)),
    P;
accept({'DOWN', Ref, process, _Pid, _Reason}, _Env, P = #process{waits = {Ref, _, _}}) ->
    P#process{waits = none};
accept({'DOWN', Ref, process, _Pid, _Reason} = Message, Env, P) ->
    #process{module = Module, state = State} = P,
    case Module:is_ours(Ref, State) of
        true -> control(Message, P);
        false -> accept_plain(Message, Env, P)
    end;
accept(Message, Env, P) ->
    accept_plain(Message, Env, P).

with_token({'$coop', _, _, _, [], _} = Message, []) ->
    Message;
with_token({'$coop', Kind, Edge, Units, Sent, Data}, Env) when
    Kind =:= data; Kind =:= priority; Kind =:= batch
->
    Token =
        case Env of
            #{token := Its} -> Its;
            _ -> []
        end,
    {'$coop', Kind, Edge, Units, coop_token:keep(sent_env(Sent), Token), Data};
with_token(Message, _Env) ->
    Message.

%% What a stranger has made up is none, lest an answer to it end the process. A
%% token never comes this way.
sent_env(#{call := {Pid, _Tag} = From}) when is_pid(Pid) -> #{call => From};
sent_env(_) -> [].

accept_ours({'$coop', data, _Edge, Units, _Env, _Datum} = Item, P) when ?IS_UNITS(Units) ->
    admit(Item, P);
accept_ours({'$coop', batch, Edge, Units, Env, Data}, P) when ?IS_UNITS(Units), length(Data) >= 0 ->
    accept_batch(Data, Edge, Units, Env, P);
accept_ours({'$coop', barrier, _Edge, {Caller, _Ref}} = Item, P) when is_pid(Caller) ->
    enqueue(Item, P);
accept_ours({'$coop', flush, {Caller, _Ref}} = Item, P) when is_pid(Caller) ->
    enqueue(Item, P);
accept_ours({'$coop', priority, _Edge, Units, _Env, _Datum} = Item, P) when ?IS_UNITS(Units) ->
    #process{urgent = Urgent, queued = N} = P,
    P#process{urgent = queue:in(Item, Urgent), queued = N + 1};
accept_ours({'$coop', credit, Edge, Units}, P) when ?IS_UNITS(Units) ->
    send_outbox(granted(Edge, Units, P));
%% of nodes made late
accept_ours({'$coop', join, Pid, Edge, Barred, Units} = Message, P) when
    is_pid(Pid), ?IS_UNITS(Units), is_integer(Edge)
->
    case coop_edges:join(Edge, Pid, Barred, Units, P#process.edges) of
        {ok, Edges} ->
            P#process{edges = Edges};
        false ->
            log_unexpected(P#process.name, Message),
            P
    end;
accept_ours({'$coop', last, _Edge} = Item, P) ->
    enqueue(Item, P);
accept_ours({'$coop', passed, Edge}, P = #process{late = Late}) when Late =/= none ->
    send_outbox(P#process{late = coop_late:passed(Edge, Late)});
accept_ours({'$coop', done, Edge}, P = #process{late = Late}) when Late =/= none ->
    late_done(Edge, P);
accept_ours({'$coop', fresh, Edge, Pids}, P = #process{late = Late}) when
    Late =/= none, length(Pids) >= 0
->
    fresh_workers(Edge, Pids, P);
%% for those who relay; and what a VM that does has refused in our name
accept_ours({'$coop', overload, _Edge, _IsOver}, P) ->
    P;
accept_ours({'$coop', shed, _Edge, N}, P = #process{overloaded = All}) when is_integer(N), N > 0 ->
    P#process{overloaded = All + N};
accept_ours({'$coop', halt, Switch}, P = #process{parent = Switch}) ->
    Switch ! {'$coop', halted, self()},
    halted(ended, P#process{results = pause(P)});
accept_ours({'$coop', {Pid, _Tag} = From, info}, P) when is_pid(Pid) ->
    gen:reply(From, info(P)),
    P;
accept_ours({'$coop', {Pid, _Tag} = From, inside}, P) when is_pid(Pid) ->
    gen:reply(From, inside(P)),
    P;
accept_ours({'$coop', {Pid, _Tag} = From, head}, P) when is_pid(Pid) ->
    gen:reply(From, P#process.head),
    P;
accept_ours({'$coop', {Pid, _Tag} = From, Request}, P) when
    is_pid(Pid), Request =:= commit_change orelse Request =:= abort_change orelse
        Request =:= release orelse element(1, Request) =:= hold orelse
        element(1, Request) =:= prepare_change
->
    {Answer, P2} = change(Request, Pid, P),
    gen:reply(From, Answer),
    P2;
accept_ours({'$coop', attach, Pid, Theirs, _} = Message, P = #process{overload = Overload}) when
    is_pid(Pid)
->
    P2 = control(Message, P),
    coop_overload:is_over(Overload) andalso (Pid ! {'$coop', overload, Theirs, true}),
    P2;
accept_ours(Message, P) ->
    control(Message, P).

%% The last of them has the credit.
accept_batch([], _Edge, _Units, _Env, P) ->
    P;
accept_batch([Datum], Edge, Units, Env, P) ->
    admit({'$coop', data, Edge, Units, Env, Datum}, P);
accept_batch([Datum | Rest], Edge, Units, Env, P) ->
    accept_batch(Rest, Edge, Units, Env, admit({'$coop', data, Edge, 0, Env, Datum}, P)).

granted(0, Units, P = #process{edges = Edges}) ->
    P#process{
        edges = coop_edges:grant(0, Units, Edges),
        results = coop_results:grant(Units, marked(done_so_far(P), P))
    };
granted(Edge, Units, P = #process{edges = Edges, late = none}) ->
    P#process{edges = coop_edges:grant(Edge, Units, Edges)};
granted(Edge, Units, P = #process{edges = Edges, late = Late}) ->
    case coop_late:workers(Late) of
        %% that is by workers
        {Edge, _} ->
            P;
        _ ->
            P#process{
                edges = coop_edges:grant(Edge, Units, Edges),
                late = coop_late:grant(Edge, Units, Late)
            }
    end.

%% A plain message has no credit, so it is the one kind of datum that can be too
%% many. Its size is asked for only here.
accept_plain(Datum, _Env, P = #process{queued = N, max_queue = Max}) when N >= Max ->
    lose(Datum, overloaded, P);
accept_plain(Datum, Env, P = #process{plain_bytes = Bytes, max_queue_bytes = Max}) ->
    case Bytes + erlang:external_size(Datum) of
        TooMany when TooMany > Max, Bytes > 0 -> lose(Datum, overloaded, P);
        Bytes2 -> admit({plain, Bytes2 - Bytes, Env, Datum}, P#process{plain_bytes = Bytes2})
    end.

%% Into the queue, if the overload policy has it so.
admit(Item, P = #process{overload = block}) ->
    enqueue(Item, P);
admit(Item, P = #process{overload = Overload}) ->
    {Mark, Overload2} = coop_overload:came(element(1, Item) =:= '$coop', Item, Overload),
    P2 = P#process{overload = Overload2},
    case coop_overload:drops_oldest(Overload2) of
        true -> make_room(early(Item, Mark, P2));
        false -> tell_relays(enqueue({waits, Mark, Item}, P2))
    end.

early({'$coop', data, Edge, _Units, Env, Datum} = Item, Mark, P) ->
    enqueue({waits, Mark, {'$coop', data, Edge, 0, Env, Datum}}, give_back(Item, P));
early(Plain, Mark, P) ->
    enqueue({waits, Mark, Plain}, P).

give_back({'$coop', data, Edge, Units, _Env, _Datum}, P = #process{edges = Edges}) ->
    P#process{edges = coop_edges:owe(Edge, Units, Edges)};
give_back({plain, Bytes, _Env, _Datum}, P = #process{plain_bytes = All}) ->
    P#process{plain_bytes = All - Bytes}.

make_room(P = #process{queued = N, overload = Overload}) ->
    case coop_overload:is_too_much(N, Overload) of
        true -> drop_oldest([], P);
        false -> P
    end.

%% The marks of a flush stay in their places.
drop_oldest(Marks, P = #process{queue = Queue, queued = N, overload = Overload}) ->
    case queue:out(Queue) of
        {{value, {waits, Mark, Item}}, Queue2} ->
            make_room(
                drop(Item, P#process{
                    queue = lists:foldl(fun queue:in_r/2, Queue2, Marks),
                    queued = N - 1,
                    overload = coop_overload:left(Mark, Overload)
                })
            );
        {{value, Other}, Queue2} ->
            drop_oldest([Other | Marks], P#process{queue = Queue2});
        {empty, _} ->
            P#process{queue = queue:from_list(lists:reverse(Marks))}
    end.

%% By the overload policy. Who waits for the result of a call is told.
drop(Item, P = #process{overloaded = Overloaded}) ->
    {Env, Datum} =
        case Item of
            {'$coop', data, _Edge, _Units, Env0, Datum0} -> {Env0, Datum0};
            {plain, _Bytes, Env0, Datum0} -> {Env0, Datum0}
        end,
    lose(Datum, overloaded, Env, give_back(Item, P#process{overloaded = Overloaded + 1})).

tell_relays(P = #process{queued = N, overload = Overload, edges = Edges}) ->
    case coop_overload:news(N, Overload) of
        none ->
            P;
        {IsOver, Overload2} ->
            lists:foreach(
                fun({Pid, Edge}) -> Pid ! {'$coop', overload, Edge, IsOver} end,
                coop_edges:senders(Edges)
            ),
            P#process{overload = Overload2}
    end.

enqueue(Item, P = #process{queue = Queue, queued = N}) ->
    P#process{queue = queue:in(Item, Queue), queued = N + 1}.

%% A datum that cannot be kept. One line a second at most, however many they are.
lose(Datum, Reason, #{call := From} = Env, P) ->
    coop_token:resume(Env),
    gen:reply(From, {'$coop', error, Reason}),
    _ = coop_token:leave(),
    lose(Datum, Reason, P);
lose(Datum, Reason, _Env, P) ->
    lose(Datum, Reason, P).

lose(Datum, Reason, P = #process{name = Name, logged_at = At}) ->
    #process{dead_letter = To, head = Head, dropped = Dropped, dead_lettered = Sent} = P,
    Now = erlang:monotonic_time(second),
    At =:= Now orelse
        logger:warning(
            "co-op process ~tp ~p drops data (~b so far): ~tp", [Name, self(), Dropped + 1, Reason]
        ),
    IsSent = coop_dead_letter:send(To, Head, Name, Datum, Reason),
    P#process{
        dropped = Dropped + 1,
        dead_lettered = if IsSent -> Sent + 1; true -> Sent end,
        logged_at = Now
    }.

control(Message, P = #process{module = Module, state = State, edges = Edges}) ->
    case Module:handle_control(Message, Edges, State) of
        {ok, Edges2, State2} ->
            send_outbox(P#process{edges = Edges2, state = State2});
        {sink, Sink, Edges2, State2} ->
            Results = coop_results:set_sink(Sink, P#process.results),
            send_outbox(P#process{results = Results, edges = Edges2, state = State2});
        {stop, Reason, State2} ->
            terminate(Reason, P#process{state = State2});
        unhandled ->
            log_unexpected(P#process.name, Message),
            P
    end.

%%% A change of code: coop_upgrade says what is next

%% Behind what a head has sent, and ahead of what it has not.
change({hold, Ref}, Pid, P = #process{head = Head, waits = none}) when Head =:= self() ->
    #process{module = Module, state = State, outbox = Outbox, edges = Edges} = P,
    case coop_edges:is_closed(Edges) of
        false ->
            Barrier = {Pid, Ref},
            {Outs, State2} = Module:handle_barrier(Barrier, State),
            P2 = P#process{
                waits = {monitor(process, Pid), Pid, held},
                state = State2,
                outbox = Outbox ++ Outs ++ marks(Barrier, P)
            },
            {ok, send_outbox(P2)};
        true ->
            {{error, busy}, P}
    end;
change({prepare_change, {Modules, OldVsn, Extra}}, Pid, P = #process{waits = none}) when
    length(Modules) >= 0
->
    #process{module = Module, state = State} = P,
    case [Each || Each <- modules(P), lists:member(Each, Modules)] of
        [Changed | _] ->
            try Module:code_change(Changed, OldVsn, Extra, State) of
                {ok, Next} ->
                    {ok, P#process{waits = {monitor(process, Pid), Pid, {next, Next}}}};
                {error, _} = Error ->
                    {Error, P}
            catch
                _:Reason -> {{error, {'EXIT', Reason}}, P}
            end;
        [] ->
            {ok, P}
    end;
change({_, _}, _Pid, P) ->
    {{error, busy}, P};
change(commit_change, Pid, P = #process{waits = {Ref, Pid, {next, Next}}}) ->
    demonitor(Ref, [flush]),
    {ok, P#process{waits = none, state = Next}};
change(_, Pid, P = #process{waits = {Ref, Pid, _}}) ->
    demonitor(Ref, [flush]),
    {ok, P#process{waits = none}};
change(_, _Pid, P) ->
    {ok, P}.

%%% One item of the data lane

take({'$coop', Kind, Edge, Units, Env, Datum} = Item, P) when Kind =:= data; Kind =:= priority ->
    #process{held = Held, edges = Edges} = P,
    Barred = coop_edges:barred(Edge, Edges),
    case Held of
        #{Barred := Behind} ->
            P#process{held = Held#{Barred := queue:in(Item, Behind)}};
        #{} ->
            P2 = used(Edge, P#process{edges = coop_edges:owe(Edge, Units, Edges)}),
            datum(Datum, Env, true, P2)
    end;
take({waits, Mark, Item}, P = #process{overload = Overload}) ->
    P2 = tell_relays(P#process{overload = coop_overload:left(Mark, Overload)}),
    case coop_overload:is_late(Mark, Overload) of
        true -> drop(Item, P2);
        false -> take(Item, P2)
    end;
take({plain, Bytes, Env, Datum}, P = #process{plain_bytes = All}) ->
    datum(Datum, Env, false, P#process{plain_bytes = All - Bytes});
take({'$coop', barrier, Edge, Barrier} = Item, P = #process{held = Held, edges = Edges}) ->
    case Held of
        #{Edge := Behind} ->
            P#process{held = Held#{Edge := queue:in(Item, Behind)}};
        #{} ->
            case coop_edges:is_in(Edge, Edges) andalso coop_edges:barred(Edge, Edges) =:= Edge of
                true -> barrier(Barrier, P#process{held = Held#{Edge => queue:new()}});
                false -> P
            end
    end;
take({'$coop', last, Edge} = Item, P = #process{held = Held, edges = Edges}) ->
    Barred = coop_edges:barred(Edge, Edges),
    case Held of
        #{Barred := Behind} ->
            P#process{held = Held#{Barred := queue:in(Item, Behind)}};
        #{} when Barred =/= Edge ->
            P#process{edges = coop_edges:drop_in(Edge, Edges)};
        #{} ->
            last(Edge, P)
    end;
take({'$coop', flush, Barrier}, P) ->
    %% it counted among what waits
    pass(Barrier, tell_relays(P)).

%% What the task gives has the token that the task leaves: its datum's, unless it
%% has received another.
datum(Datum, Env, _, P = #process{module = Module, state = State, in = In, ledger = undefined}) ->
    P2 = debug({in, Datum}, P#process{in = In + 1}),
    coop_token:resume(Env),
    try Module:handle_datum(Datum, coop_token:bare(Env), State) of
        {Outs, State2} -> emit(with_tokens(Outs), P2#process{state = State2})
    catch
        exit:normal when P#process.is_late ->
            _ = coop_token:leave(),
            end_late(P2);
        Class:Reason:Stack ->
            %% what was made before this
            _ = coop_results:pause(P#process.results),
            tell_inside(P2),
            erlang:raise(Class, Reason, Stack)
    end;
datum(Datum, Env, IsCounted, P = #process{module = Module, state = State, in = In}) ->
    coop_token:resume(Env),
    #process{taken = Taken} = P,
    P2 = debug({in, Datum}, P#process{
        in = In + 1,
        hand = {Datum, IsCounted},
        taken =
            if
                IsCounted -> Taken + 1;
                true -> Taken
            end
    }),
    try Module:handle_datum(Datum, coop_token:bare(Env), State) of
        {Outs, State2} -> emit(with_tokens(Outs), P2#process{state = State2})
    catch
        Class:Reason:Stack ->
            _ = coop_token:leave(),
            fell(Class, Reason, Stack, P2)
    end.

with_tokens(Outs) ->
    case coop_token:leave() of
        [] -> Outs;
        Token -> lists:map(fun(Out) -> with_token_of(Token, Out) end, Outs)
    end.

with_token_of(Token, {To, Env, Value}) -> {To, coop_token:keep(Env, Token), Value};
with_token_of(_Token, StartOrStop) -> StartOrStop.

%% Barriers come in one order on every edge, since the head passes them on one
%% after the other: when all edges have brought one, it is the same one.
barrier(Barrier, P = #process{held = Held, edges = Edges}) ->
    case map_size(Held) =:= coop_edges:in_size(Edges) of
        true -> release(pass(Barrier, P));
        false -> P
    end.

pass(Barrier, P = #process{module = Module, state = State, late = Late}) ->
    try Module:handle_barrier(Barrier, State) of
        {Outs, State2} ->
            %% the flush may be what starts the first node
            IsMaker = Late =/= none orelse lists:keymember(start, 1, Outs),
            Late2 =
                if
                    IsMaker -> late(Late);
                    true -> none
                end,
            P2 = P#process{state = State2, late = Late2},
            emit(with_tokens(Outs) ++ marks(Barrier, P2), P2)
    catch
        exit:normal when P#process.is_late -> end_late(P)
    end.

%% Edge 0 leads out of the co-op; the caller's mark follows the results.
marks(Barrier, #process{late = none, edges = Edges}) ->
    marks_on([To || {Edge, _Pid} = To <- coop_edges:outs(Edges), Edge > 0], Barrier);
marks(Barrier, P = #process{late = Late}) ->
    [
        {tell, Barrier},
        late
        | case {coop_late:origin(Late), coop_late:workers(Late)} of
            {none, none} -> marks(Barrier, P#process{late = none});
            {none, {_Edge, Workers}} -> marks_beyond(Workers, Barrier);
            %% those behind have it from who made this one
            {_Maker, _} -> [passed]
        end
    ].

%% Out of the co-op by the way that its workers' results go.
marks_beyond(Workers, Barrier) ->
    case coop_workers:beyond(Workers) of
        [] -> [{flushed, coop_workers:supplier(Workers), Barrier}];
        Outs -> marks_on(Outs, Barrier)
    end.

marks_on([], Barrier) -> [{flushed, Barrier}];
marks_on(Outs, Barrier) -> [{barrier, Edge, Pid, Barrier} || {Edge, Pid} <- Outs].

%% What waited behind the barrier goes ahead of what came later, edge by edge.
release(P = #process{held = Held, queue = Queue, queued = N}) ->
    Behind = [Q || {_Edge, Q} <- lists:sort(maps:to_list(Held)), not queue:is_empty(Q)],
    P#process{
        held = #{},
        queue = lists:foldr(fun queue:join/2, Queue, Behind),
        queued = N + lists:sum([queue:len(Q) || Q <- Behind])
    }.

%%% Results out

emit([], P) ->
    done(P);
emit(Outs, P = #process{outbox = []}) ->
    send_outbox(P#process{outbox = Outs}).

%% The datum gave nothing, or nothing that goes to anyone.
done(P = #process{ledger = undefined}) ->
    P;
done(P = #process{results = Results}) ->
    %% else it is with those ahead of it, when they go
    coop_results:is_empty(Results) andalso note_done(P),
    P#process{hand = undefined}.

note_done(#process{ledger = Ledger, taken = Taken}) ->
    {Ref, Slot, Word} = coop_ledger:entry(0, 0, Taken, Ledger),
    atomics:put(Ref, Slot, Word).

%% In order, up to the first that has no credit.
send_outbox(P = #process{outbox = [], hand = undefined}) ->
    P;
send_outbox(P = #process{outbox = []}) ->
    P#process{hand = undefined};
send_outbox(P = #process{outbox = [{{any, Ways}, Env, Value} | Rest], edges = Edges}) ->
    case coop_edges:least_loaded(Ways, Edges) of
        {ok, Way, Edges2} ->
            Chosen = [{Edge, Env, Value} || Edge <- Way],
            send_outbox(P#process{outbox = Chosen ++ Rest, edges = Edges2});
        full ->
            P
    end;
send_outbox(P = #process{outbox = [Entry | Rest]}) ->
    case send(Entry, P) of
        blocked -> P;
        {blocked, P2} -> P2;
        P2 -> send_outbox(P2#process{outbox = Rest})
    end.

send({result, #{call := From} = Env, Value}, P) ->
    coop_token:resume(Env),
    gen:reply(From, Value),
    _ = coop_token:leave(),
    _ = tell_head({'$coop', replied, From}, P),
    sent(Value, From, done_if_last(P));
send({result, Env, Value}, P) ->
    send_result(Env, Value, P);
send({barrier, Edge, Pid, Barrier}, P) ->
    Pid ! {'$coop', barrier, Edge, Barrier},
    P;
send({flushed, Supplier, {Caller, Ref}}, P = #process{last_tier = Total}) ->
    Supplier ! {'$coop', mark, Caller, {'$coop', flushed, Ref, Total}},
    P;
send({flushed, {Caller, Ref}}, P = #process{last_tier = Total}) ->
    Results = pause(P),
    case coop_results:is_empty(Results) of
        true ->
            Caller ! {'$coop', flushed, Ref, Total},
            _ = tell_head({'$coop', flushed, Ref, Total}, P),
            P#process{results = Results};
        %% until they have been asked for
        false ->
            {blocked, P#process{results = Results}}
    end;
send(late, P = #process{late = Late}) ->
    case coop_late:is_through(Late) of
        true -> P;
        false -> blocked
    end;
send({tell, What}, P = #process{late = Late}) ->
    P#process{late = coop_late:tell(What, Late)};
send({start, Edge, Pid, Window}, P = #process{late = Late}) ->
    P#process{late = coop_late:start(Edge, Pid, Window, late(Late))};
send({stop, Pid}, P = #process{late = Late}) ->
    P#process{late = coop_late:stop(Pid, late(Late))};
send({{late, Pid}, Env, Value}, P = #process{late = Late}) ->
    case coop_late:take(Pid, late(Late)) of
        {ok, Edge, Late2} ->
            coop_token:send(Pid, {'$coop', data, Edge, 1, coop_token:bare(Env), Value}, Env),
            sent(Value, Pid, P#process{late = Late2});
        full ->
            blocked;
        none ->
            lose(Value, noproc, Env, done_if_last(P))
    end;
send(Last, P) when Last =:= passed; Last =:= good_bye ->
    Results = pause(P),
    case coop_results:is_empty(Results) of
        true when Last =:= passed ->
            {Maker, Edge} = coop_late:origin(P#process.late),
            Maker ! {'$coop', passed, Edge},
            P#process{results = Results};
        true ->
            good_bye(P),
            terminate(normal, P#process{results = Results});
        false ->
            {blocked, P#process{results = Results}}
    end;
send({{lost, Reason}, Env, Value}, P) ->
    lose(Value, Reason, Env, done_if_last(P));
send({Edge, Env, Value}, P = #process{edges = Edges}) ->
    case coop_edges:take(Edge, Edges) of
        {ok, workers, Edges2} ->
            send_to_worker(Edge, Env, Value, P#process{edges = Edges2});
        {ok, Pid, Edges2} ->
            deliver(Pid, {'$coop', data, Edge, 1, coop_token:bare(Env), Value}, Env, Edge, P),
            sent(Value, Pid, P#process{edges = Edges2});
        full ->
            blocked;
        none ->
            lose(Value, noproc, done_if_last(P))
    end.

send_result(Env, Value, P = #process{edges = Edges}) ->
    Results = marked(done_after(P), P),
    case coop_results:put(Env, Value, Edges, Results) of
        {blocked, Results2} -> {blocked, P#process{results = pause(P#process{results = Results2})}};
        lost -> lose(coop_results:tagged(Value, Results), noproc, done_if_last(P));
        {none, _, _} -> sent(Value, none, done_if_last(P));
        {To, Edges2, Results2} -> sent(Value, To, P#process{edges = Edges2, results = Results2})
    end.

%%% Nodes made late

late(none) -> coop_late:new(none, none);
late(Late) -> Late.

send_to_worker(Edge, Env, Value, P = #process{late = Late}) ->
    {Edge, Workers} = coop_late:workers(Late),
    {Pid, Workers2} = coop_workers:take(Workers),
    coop_token:send(Pid, {'$coop', data, Edge, 0, coop_token:bare(Env), Value}, Env),
    Pid ! {'$coop', last, Edge},
    order_workers(sent(Value, Pid, P#process{late = coop_late:set_workers({Edge, Workers2}, Late)})).

order_workers(P = #process{late = none}) ->
    P;
order_workers(P = #process{late = Late}) ->
    case coop_late:workers(Late) of
        none ->
            P;
        {Edge, Workers} ->
            case coop_workers:order(Workers) of
                {Supplier, Workers2} ->
                    Supplier ! {'$coop', more, self(), Edge},
                    P#process{late = coop_late:set_workers({Edge, Workers2}, Late)};
                enough ->
                    P
            end
    end.

fresh_workers(Edge, Pids, P = #process{late = Late}) ->
    case lists:all(fun erlang:is_pid/1, Pids) andalso coop_late:workers(Late) of
        {Edge, Workers} ->
            Workers2 = coop_workers:add(Pids, Workers),
            order_workers(more_credit(Edge, Workers, coop_late:set_workers({Edge, Workers2}, Late), P));
        _ ->
            P
    end.

late_done(Edge, P = #process{late = Late, dropped = Dropped}) ->
    case {coop_late:done(Edge, Late), coop_late:workers(Late)} of
        {{_, Late2}, {Edge, Workers}} ->
            more_credit(Edge, Workers, Late2, P);
        {{Lost, Late2}, _} ->
            send_outbox(P#process{late = Late2, dropped = Dropped + Lost})
    end.

more_credit(Edge, Workers, Late, P = #process{edges = Edges}) ->
    {Edge, Workers2} = coop_late:workers(Late),
    More = coop_workers:credit(Workers2) - coop_workers:credit(Workers),
    send_outbox(P#process{late = Late, edges = coop_edges:grant(Edge, More, Edges)}).

used(_Edge, P = #process{late = none}) -> P;
used(Edge, P = #process{late = Late}) -> P#process{late = coop_late:used(Edge, Late)}.

%% Nothing more comes to a node that was made late: after its flush it ends.
last(Edge, P = #process{late = Late, module = Module, state = State}) when Late =/= none ->
    case coop_late:origin(Late) of
        {_Maker, Edge} ->
            P2 = used(Edge, P),
            try Module:handle_barrier(last, State) of
                {Outs, State2} ->
                    emit(with_tokens(Outs) ++ end_of_late(), P2#process{state = State2})
            catch
                exit:normal -> end_late(P2)
            end;
        _ ->
            P
    end;
last(_Edge, P) ->
    P.

%% It has ended itself with `normal': so do those that it has started, before it.
%% One that waits to be used has no business to.
end_late(P = #process{late = Late, outbox = Outbox}) ->
    coop_late:is_used(Late) orelse exit({unused, normal}),
    send_outbox(P#process{outbox = Outbox ++ end_of_late()}).

end_of_late() -> [{tell, last}, late, good_bye].

%% Behind all that it has sent.
good_bye(#process{late = Late, edges = Edges}) ->
    {Maker, MakersEdge} = coop_late:origin(Late),
    coop_edges:pay_all(Edges),
    Outs = [Out || {Edge, _Pid} = Out <- coop_edges:outs(Edges), Edge > 0],
    lists:foreach(fun({Edge, Pid}) -> Pid ! {'$coop', last, Edge} end, Outs),
    Maker ! {'$coop', done, MakersEdge},
    ok.

%% What waits to fill a batch goes out.
pause(P) ->
    coop_results:pause(marked(done_so_far(P), P)).

done_so_far(#process{hand = {_, true}, taken = Taken}) -> Taken - 1;
done_so_far(#process{taken = Taken}) -> Taken.

marked(_Done, #process{ledger = undefined, results = Results}) ->
    Results;
marked(Done, #process{ledger = Ledger, results = Results}) ->
    coop_results:mark(Ledger, Done, Results).

%% The put and the send next to each other: see coop_ledger.
deliver(To, Message, Env, _Edge, #process{ledger = undefined}) ->
    coop_token:send(To, Message, Env);
deliver(To, Message, Env, Edge, P = #process{ledger = Ledger}) ->
    {Ref, Slot, Word} = coop_ledger:entry(Edge, 1, done_after(P), Ledger),
    coop_token:resume(Env),
    atomics:put(Ref, Slot, Word),
    To ! Message,
    _ = coop_token:leave(),
    ok.

%% How many data are done with once the first entry of the outbox is sent.
done_after(#process{outbox = [_, _ | _], hand = {_, true}, taken = Taken}) -> Taken - 1;
done_after(#process{taken = Taken}) -> Taken.

done_if_last(P = #process{outbox = [_]}) -> done(P);
done_if_last(P) -> P.

tell_head(_Message, #process{ledger = undefined}) -> ok;
tell_head(Message, #process{head = Head}) -> Head ! Message.

sent(_Value, _To, P = #process{debug = [], out = Out}) ->
    P#process{out = Out + 1};
sent(Value, To, P = #process{out = Out}) ->
    debug({out, Value, To}, P#process{out = Out + 1}).

%%% The end of a body that is restarted: what waits here is handed over to the
%%% kill switch, and goes to this process's successor.

%% The task crashed. The end itself has to wait for the others'.
fell(Class, Reason, Stack, P = #process{parent = Switch}) ->
    tell_inside(P),
    Switch ! {'$coop', fell, self(), exit_reason(Class, Reason, Stack)},
    halted({Class, Reason, Stack}, P#process{results = pause(P)}).

%% What goes with it, if that is the end of the co-op: the datum that it crashed
%% over, and what waits.
tell_inside(P = #process{parent = Switch}) ->
    Switch ! {'$coop', inside, self(), 1 + inside(P)},
    ok.

inside(#process{queue = Queue, urgent = Urgent, held = Held, outbox = Outbox, results = Results}) ->
    Waiting = [Item || Q <- [Queue, Urgent | maps:values(Held)], Item <- queue:to_list(Q)],
    {Ready, _} = coop_results:left(Results),
    length(lists:filter(fun is_datum/1, Waiting)) + length(Ready) +
        if Outbox =:= [] -> 0; true -> 1 end.

exit_reason(error, Reason, Stack) -> {Reason, Stack};
exit_reason(exit, Reason, _Stack) -> Reason;
exit_reason(throw, Reason, Stack) -> {{nocatch, Reason}, Stack}.

-spec halted(ended | {error | exit | throw, term(), list()}, #process{}) -> no_return().
halted(How, P = #process{parent = Switch}) ->
    receive
        {'$coop', halt, Switch} ->
            Switch ! {'$coop', halted, self()},
            halted(How, P);
        {'$coop', stop, Reason} ->
            exit(Reason);
        {'$coop', hand_over, Switch, Reason} ->
            {Results, Gone} = coop_results:left(P#process.results),
            Losses = bury(cause(How, Reason), Results, P),
            P2 = drain_all(release(P#process{outbox = [], hand = undefined, results = Gone})),
            Items = [Item || Item <- queue:to_list(P2#process.queue), is_datum(Item)],
            Switch ! {'$coop', held, self(), Items, Losses},
            end_as(How, Reason)
    end.

drain_all(P) ->
    receive
        {system, _From, _Request} -> drain_all(P);
        Message -> drain_all(received(Message, P))
    after 0 -> P
    end.

is_datum({plain, _Bytes, _Env, _Datum}) -> true;
is_datum({waits, _Mark, Item}) -> is_datum(Item);
is_datum(Item) -> lists:member(element(2, Item), [data, priority]).

cause(ended, Reason) -> Reason;
cause({Class, Why, Stack}, _Reason) -> exit_reason(Class, Why, Stack).

%% The datum in hand, and results that nobody has asked for.
-spec bury(term(), [term()], #process{}) -> coop_body:losses().
bury(Cause, Results, #process{hand = Hand, dead_letter = To, head = Head, name = Name}) ->
    InHand =
        case Hand of
            undefined -> [];
            {Datum, _} -> [Datum]
        end,
    All = Results ++ InHand,
    Sent = length([x || Each <- All, coop_dead_letter:send(To, Head, Name, Each, Cause)]),
    #{lost => length(All) - Sent, dead_lettered => Sent}.

%% As by a signal: the crash report is that of the process whose end this is.
-spec end_as(ended | {error | exit | throw, term(), list()}, term()) -> no_return().
end_as(ended, Reason) ->
    Reason =:= normal orelse Reason =:= kill orelse exit(self(), Reason),
    exit(Reason);
end_as({Class, Reason, Stack}, _) ->
    erlang:raise(Class, Reason, Stack).

inherit(Items, P) ->
    lists:foldl(
        fun
            ({plain, Bytes, _, _} = Item, Acc = #process{plain_bytes = All}) ->
                enqueue(Item, Acc#process{plain_bytes = All + Bytes});
            (Item, Acc) ->
                enqueue(Item, Acc)
        end,
        P,
        Items
    ).

%%% Manners

info(P = #process{module = Module, state = State, edges = Edges}) ->
    {message_queue_len, Undrained} = process_info(self(), message_queue_len),
    Behind = lists:sum([queue:len(Q) || Q <- maps:values(P#process.held)]),
    Info = #{
        name => P#process.name,
        queue => P#process.queued + Behind,
        control => Undrained,
        in => P#process.in,
        out => P#process.out,
        dropped => P#process.dropped,
        dead_lettered => P#process.dead_lettered,
        status => P#process.status,
        blocked => P#process.outbox =/= [] orelse not coop_edges:has_credit(P#process.needs, Edges)
    },
    maps:merge(maps:merge(Info, late_info(P)), maps:merge(overload_info(P), Module:info(State))).

late_info(#process{late = none}) -> #{};
late_info(#process{late = Late}) -> coop_late:info(Late).

overload_info(#process{head = Head}) when Head =/= self() -> #{};
overload_info(#process{overload = Overload, overloaded = N}) ->
    #{overload => coop_overload:policy(Overload), overloaded => N}.

modules(#process{module = Module, state = State}) ->
    case erlang:function_exported(Module, modules, 1) of
        true -> Module:modules(State);
        false -> [Module]
    end.

debug(_Event, P = #process{debug = []}) ->
    P;
debug(Event, P = #process{debug = Debug, name = Name}) ->
    P#process{debug = sys:handle_debug(Debug, fun print_event/3, Name, Event)}.

print_event(Device, {in, Datum}, Name) ->
    io:format(Device, "*DBG* ~tp got ~tp~n", [Name, Datum]);
print_event(Device, {out, Result, To}, Name) ->
    io:format(Device, "*DBG* ~tp sent ~tp to ~tp~n", [Name, Result, To]);
print_event(Device, Event, Name) ->
    io:format(Device, "*DBG* ~tp ~tp~n", [Name, Event]).

%% suspend and resume are ours, because the loop of `sys' for a suspended
%% process would leave credit and info unanswered, and data in the mailbox. With
%% them go the two requests whose answer depends on being suspended.
system(suspend, From, P) ->
    gen:reply(From, ok),
    go_on(P#process{status = suspended});
system(resume, From, P) ->
    gen:reply(From, ok),
    go_on(P#process{status = running});
system({change_code, Changed, OldVsn, Extra}, From, P = #process{status = suspended}) when
    Changed =/= P#process.module, P#process.head =:= self()
->
    #process{module = Module} = P,
    ok = Module:body_change(From, Changed, OldVsn, Extra),
    go_on(P);
system({change_code, Module, OldVsn, Extra}, From, P = #process{status = suspended}) ->
    try system_code_change(P, Module, OldVsn, Extra) of
        {ok, P2} ->
            gen:reply(From, ok),
            go_on(P2);
        Error ->
            gen:reply(From, {error, Error}),
            go_on(P)
    catch
        _:Reason ->
            gen:reply(From, {error, {'EXIT', Reason}}),
            go_on(P)
    end;
system(get_status, From, P = #process{module = Module, status = Status}) ->
    #process{parent = Parent, debug = Debug} = P,
    Dictionary = get(),
    Misc = format_status(normal, [Dictionary, Status, Parent, Debug, P]),
    gen:reply(From, {status, self(), {module, Module}, [Dictionary, Status, Parent, Debug, Misc]}),
    go_on(P);
system(Request, From, P = #process{parent = Parent, debug = Debug}) ->
    sys:handle_system_msg(Request, From, Parent, ?MODULE, Debug, P).

%% It has been answered under its token.
go_on(P) ->
    _ = coop_token:take(),
    loop(P).

-spec system_continue(pid(), [sys:dbg_opt()], #process{}) -> no_return().
system_continue(_Parent, Debug, P) ->
    go_on(P#process{debug = Debug}).

-spec system_terminate(term(), pid(), [sys:dbg_opt()], #process{}) -> no_return().
system_terminate(normal, _Parent, Debug, P) when P#process.is_late ->
    _ = coop_token:take(),
    loop(end_late(P#process{debug = Debug, status = running}));
system_terminate(Reason, _Parent, Debug, P) ->
    terminate(Reason, P#process{debug = Debug}).

-spec system_get_state(#process{}) -> {ok, term()}.
system_get_state(#process{module = Module, state = State}) ->
    {ok, Module:get_state(State)}.

-spec system_replace_state(fun((term()) -> term()), #process{}) -> {ok, term(), #process{}}.
system_replace_state(Fun, P = #process{module = Module, state = State}) ->
    case erlang:function_exported(Module, replace_state, 2) of
        true ->
            {New, State2} = Module:replace_state(Fun, State),
            {ok, New, P#process{state = State2}};
        false ->
            Shown = Module:get_state(State),
            Fun(Shown) =:= Shown orelse error(read_only),
            {ok, Shown, P}
    end.

-spec system_code_change(#process{}, module(), term(), term()) -> {ok, #process{}} | term().
system_code_change(P = #process{module = Module, state = State}, Changed, OldVsn, Extra) ->
    case
        erlang:function_exported(Module, code_change, 4) andalso
            Module:code_change(Changed, OldVsn, Extra, State)
    of
        false -> {ok, P};
        {ok, State2} -> {ok, P#process{state = State2}};
        {error, Reason} -> Reason
    end.

-spec format_status(normal, [term()]) -> [term()].
format_status(normal, [_Dictionary, _SysState, Parent, Debug, P]) ->
    #process{module = Module, state = State, name = Name} = P,
    [
        {header, lists:flatten(io_lib:format("Status for co-op process ~tp", [Name]))},
        {data, [
            {"Status", P#process.status},
            {"Parent", Parent},
            {"Logged events", sys:get_log(Debug)}
            | [{atom_to_list(Key), Value} || {Key, Value} <- maps:to_list(info(P))]
        ]},
        {data, [{"State", Module:get_state(State)}]}
    ].

-spec terminate(term(), #process{}) -> no_return().
terminate(Reason, #process{module = Module, state = State, results = Results}) ->
    _ = coop_results:pause(Results),
    ok = Module:terminate(Reason, State),
    exit(Reason).
