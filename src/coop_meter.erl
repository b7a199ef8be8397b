%% Credit on behalf of plain processes of this VM. A process that receives a
%% co-op's results knows nothing of credit, so the nodes that send to it ask
%% here, half a window at a time, and are answered when the receiver's queue is
%% no longer than that, in messages: with batches it is fewer of them.
%%
%% A receiver that itself waits in `coop', for credit or a flush or a reply,
%% cannot empty its queue meanwhile: it is granted for, or it would wait for
%% ever.
%%
%% This is a process apart from coop_credit because looking at another process
%% waits until that one has been scheduled.
-module(coop_meter).

-behaviour(gen_server).

-export([start_link/0]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

%% Between two looks at a queue that is too long, in milliseconds.
-define(FIRST_LOOK, 1).
-define(LAST_LOOK, 64).

-type ask() :: {Sender :: pid(), coop_edges:edge(), pos_integer(), Queue :: pos_integer()}.
-record(state, {
    %% by receiver, those who wait and how long until the next look
    waiting = #{} :: #{pid() => {[ask()], pos_integer()}}
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, term()}, #state{}}.
handle_call(Request, _From, State) ->
    {reply, {error, {unknown_request, Request}}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'$coop', meter, Sender, Edge, To, Units, Queue}, State) ->
    Ask = {Sender, Edge, Units, Queue},
    case whereis_receiver(To) of
        undefined ->
            grant(Ask),
            {noreply, State};
        Pid ->
            {noreply, ask(Pid, Ask, State)}
    end;
handle_info({look, Pid}, State = #state{waiting = Waiting}) ->
    {{Asks, Delay}, Waiting2} = maps:take(Pid, Waiting),
    case lists:partition(fun(Ask) -> may_have(Pid, Ask) end, lists:reverse(Asks)) of
        {[], _} ->
            {noreply, wait(Pid, Asks, min(2 * Delay, ?LAST_LOOK), State#state{waiting = Waiting2})};
        {Granted, Rest} ->
            lists:foreach(fun grant/1, Granted),
            {noreply, wait(Pid, lists:reverse(Rest), ?FIRST_LOOK, State#state{waiting = Waiting2})}
    end;
handle_info(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

whereis_receiver(Pid) when is_pid(Pid) -> Pid;
whereis_receiver({Name, _Node}) ->
    case whereis(Name) of
        Pid when is_pid(Pid) -> Pid;
        _ -> undefined
    end.

ask(Pid, Ask, State = #state{waiting = Waiting}) ->
    case Waiting of
        #{Pid := {Asks, Delay}} ->
            State#state{waiting = Waiting#{Pid := {[Ask | Asks], Delay}}};
        #{} ->
            case may_have(Pid, Ask) of
                true ->
                    grant(Ask),
                    State;
                false ->
                    wait(Pid, [Ask], ?FIRST_LOOK, State)
            end
    end.

wait(_Pid, [], _Delay, State) ->
    State;
wait(Pid, Asks, Delay, State = #state{waiting = Waiting}) ->
    erlang:send_after(Delay, self(), {look, Pid}),
    State#state{waiting = Waiting#{Pid => {Asks, Delay}}}.

grant({Sender, Edge, Units, _Queue}) ->
    Sender ! {'$coop', credit, Edge, Units},
    ok.

%% What a dead process is sent is gone at once.
may_have(Pid, {_Sender, _Edge, _Units, Queue}) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} when Length > Queue -> waits_for_us(Pid);
        _ -> true
    end.

waits_for_us(Pid) ->
    case process_info(Pid, current_stacktrace) of
        {current_stacktrace, Stack} ->
            lists:any(
                fun({Module, _, _, _}) -> Module =:= coop orelse Module =:= coop_credit end, Stack
            );
        undefined ->
            true
    end.
